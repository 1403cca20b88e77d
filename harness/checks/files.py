"""All files of a port judged stage by stage: each stage is fed with what the port itself had before it.

So a mistake shows in the stage where it was made, and not in all that follow. Where the port gives no files of a
stage, the reference's own take their place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.centernet.decode import NonFiniteHeadError, decode, to_image_space
from harness.centernet.heads import DeviceOutputError, require_heads
from harness.centernet.preprocess import preprocess
from harness.checks.claim import judge_claim
from harness.checks.comparison import Comparison
from harness.checks.detections import Rows, judge_detections, table_of_rows
from harness.checks.heads import compare_heads
from harness.checks.inputs import judge_input
from harness.checks.speed import judge_speed
from harness.data.dataset import Dataset
from harness.data.detections import Results
from harness.exchange.heads import read_heads_file
from harness.exchange.inputs import read_input
from harness.exchange.speed_log import SpeedLog
from harness.exchange.stems import file_stems
from harness.run.reference import Reference
from harness.types import Heads, Progress

Judged = dict[str, list[Comparison]]
"""Comparisons by stage, in the order of the stages."""


@dataclass(frozen=True)
class PortFiles:
    """Files that a port wrote; None for those that it did not.

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

    @property
    def judges_outputs(self) -> bool:
        """Whether there are outputs of the images among them, which alone can show that a port is right."""
        return self.heads is not None or self.results is not None

    def __post_init__(self) -> None:
        for row in self.results or ():
            self.by_image.setdefault(int(row["image_id"]), []).append(row)


def judge_files(
    golden: Reference,
    dataset: Dataset,
    files: PortFiles,
    right: Results | None = None,
    progress: Progress | None = None,
) -> Judged:
    """Compare what a port wrote with the reference, by stage.

    Args:
        golden: The reference.
        dataset: The images that the port was run on.
        files: What it wrote.
        right: Takes the reference's own detections of every image, where the port wrote detections.
        progress: Told after every image.

    Raises:
        HarnessError: A file is missing or damaged.
    """
    stems = file_stems(dataset)
    judged: Judged = {name: [] for name in ("preprocess", "heads", "detections", "evaluate", "speed")}
    of_images = files.inputs is not None or files.judges_outputs
    for done, image_id in enumerate(dataset.image_ids if of_images else (), 1):
        for stage, comparison in _judge_image(golden, dataset, files, image_id, stems[image_id], right):
            judged[stage].append(comparison)
        if progress is not None:
            progress(done, len(dataset))
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
    golden: Reference, dataset: Dataset, files: PortFiles, image_id: int, stem: str, right: Results | None
) -> Iterator[tuple[str, Comparison]]:
    card, label = golden.subject.card, f"image {image_id}"
    array, placement = preprocess(card, dataset.read_image(image_id))
    own_heads: Heads | None = None
    if right is not None and files.results is not None:
        own_heads = golden.heads(array[None])
        right.add(image_id, to_image_space(card, decode(card, own_heads)[0], placement))
    if files.inputs is not None:
        own, array = array, read_input(card, dataset, files.inputs / f"{stem}.bin", image_id)
        yield "preprocess", judge_input(card, array, own, label)
    if files.heads is None and files.results is None:
        return
    try:
        if files.heads is not None:
            heads = read_heads_file(card, files.heads / f"{stem}.npz")
            require_heads(card, heads, 1)
            reference = golden.heads(array[None])
            for comparison in compare_heads(heads, reference, golden.allowed(array[None], reference), label):
                yield "heads", comparison
            allowed: Mapping[str, float] = {}
        else:
            heads = own_heads if own_heads is not None and files.inputs is None else golden.heads(array[None])
            allowed = golden.allowed(array[None], heads)
        if files.results is not None:
            rows = table_of_rows(files.by_image.get(image_id, []))
            yield "detections", judge_detections(card, rows, heads, placement, allowed, label)
    except (DeviceOutputError, NonFiniteHeadError) as error:
        yield "heads", Comparison(label, math.inf, 0, 0, str(error))
