"""All files of a port, judged: which stage is wrong by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError, read_heads
from harness.centernet.preprocess import preprocess
from harness.checks.comparison import Comparison
from harness.checks.port_files import Rows, judge_claim, judge_detections, judge_heads, judge_input, read_input
from harness.checks.speed import judge_speed
from harness.data.dataset import Dataset
from harness.exchange.heads import read_heads_file
from harness.exchange.speed_log import SpeedLog
from harness.exchange.stems import file_stems
from harness.run.limits import HeadLimits
from harness.run.subject import Subject
from harness.types import Heads

Judged = dict[str, list[Comparison]]
"""Comparisons by stage, in the order of the stages."""


class Golden:
    """The reference's heads of any network input, and what a port may differ by from them.

    Args:
        subject: The model.
        precision: That the port claims.
    """

    def __init__(self, subject: Subject, precision: str = "fp32") -> None:
        self.subject, self.precision = subject, precision
        self._limits = HeadLimits(subject, precision)
        device = subject.reference
        with TemporaryDirectory() as folder:
            exported = subject.exported(device.card, Path(folder), subject.card.batch_sizes[0])
            self._artifact = device.convert(exported, 1, "fp32")
        self._device = device

    def outputs(self, images: NDArray[np.generic]) -> Mapping[str, NDArray[Any]]:
        """The reference's outputs of one batch, by name."""
        return self._device.run(self._artifact, images)

    def heads(self, images: NDArray[np.generic]) -> Heads:
        """The reference's heads of one batch."""
        return read_heads(self.subject.card, self.outputs(images), len(images))

    def allowed(self, images: NDArray[np.generic], heads: Heads) -> dict[str, float]:
        """Largest absolute difference of each head on these images."""
        return self._limits.of(images, heads, self.subject.second_opinion(images))


@dataclass(frozen=True)
class PortFiles:
    """What a port wrote; None where it did not.

    Attributes:
        inputs: Folder with STEM.bin for each image.
        heads: Folder with STEM.npz for each image.
        results: Rows of its results file.
        claim: Figures of its own evaluation of them.
        speed: The log of its benchmark.
    """

    inputs: Path | None = None
    heads: Path | None = None
    results: Rows | None = None
    claim: Mapping[str, float] | None = None
    speed: SpeedLog | None = None
    by_image: dict[int, list[Mapping[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.results or ():
            self.by_image.setdefault(int(row["image_id"]), []).append(row)


def judge_files(golden: Golden, dataset: Dataset, files: PortFiles) -> Judged:
    """Hold what a port wrote to the reference, every stage fed with what the port itself had before it.

    Args:
        golden: The reference.
        dataset: The images that the port was run on.
        files: What it wrote.

    Raises:
        HarnessError: A file is missing or damaged.
    """
    stems = file_stems(dataset)
    judged: Judged = {name: [] for name in ("preprocess", "heads", "detections", "evaluate", "speed")}
    for image_id in dataset.image_ids:
        for stage, comparison in _judge_image(golden, dataset, files, image_id, stems[image_id]):
            judged[stage].append(comparison)
    if files.results is not None:
        unknown = files.by_image.keys() - set(dataset.image_ids)
        if unknown:
            problem = f"{len(unknown)} images of the results are not of the data set"
            judged["detections"].append(Comparison("images", len(unknown), 0, 1, problem))
        if files.claim is not None:
            judged["evaluate"] = judge_claim(dataset.instances, files.results, files.claim)
    if files.speed is not None:
        judged["speed"] = [judge_speed(files.speed)]
    return {stage: comparisons for stage, comparisons in judged.items() if comparisons}


def _judge_image(
    golden: Golden, dataset: Dataset, files: PortFiles, image_id: int, stem: str
) -> Iterator[tuple[str, Comparison]]:
    card = golden.subject.card
    array, _ = preprocess(card, dataset.read_image(image_id))
    if files.inputs is not None:
        own, array = array, read_input(card, dataset, files.inputs / f"{stem}.bin", image_id)
        yield "preprocess", judge_input(card, image_id, array, own)
    heads: Heads | None = None
    margin = box_margin = 0.0
    if files.heads is not None:
        try:
            heads = _read_heads(card, files.heads / f"{stem}.npz")
        except DeviceOutputError as error:
            yield "heads", Comparison(f"image {image_id}", math.inf, 0, 0, str(error))
            return
        reference = golden.heads(array[None])
        for comparison in judge_heads(image_id, heads, reference, golden.allowed(array[None], reference)):
            yield "heads", comparison
    elif files.results is not None:
        heads = golden.heads(array[None])
        allowed = golden.allowed(array[None], heads)
        margin = 2 * allowed["hm"] * (0.25 if card.output.hm == "logits" else 1.0)
        unit = 1.0 if card.output.box_unit == "input" else float(card.decode.stride)
        box_margin = 2 * (unit * allowed["wh"] + card.decode.stride * allowed.get("reg", 0.0))
    if files.results is not None and heads is not None:
        try:
            rows = files.by_image.get(image_id, [])
            yield "detections", judge_detections(card, dataset, image_id, rows, heads, margin, box_margin)
        except NonFiniteHeadError as error:
            yield "heads", Comparison(f"image {image_id}", math.inf, 0, 0, str(error))


def _read_heads(card: ModelCard, file: Path) -> Heads:
    heads = read_heads_file(card, file)
    if card.output.concatenated:
        outputs = {card.output.names[0]: np.concatenate([heads[name] for name in card.output.heads], axis=1)}
    else:
        outputs = {name: heads[head] for name, head in zip(card.output.names, card.output.heads, strict=True)}
    return read_heads(card, outputs, 1)
