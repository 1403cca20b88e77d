"""Judges faulty ports as the suite judges devices and files, and says in which stages they are found wrong."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from conformance.catalogue.cases import Case, annotate, make_images, rows_of_port
from harness.cards import load_device_card
from harness.cards.device import CARDS
from harness.checks.files import PortFiles, judge_files
from harness.data.dataset import Dataset
from harness.devices.base import Device
from harness.exchange.speed_log import BatchTime, SpeedLog
from harness.exchange.stems import file_stems
from harness.faults import AnyFault, PortSpec
from harness.faults.fault import FaultStage, Params
from harness.faults.port import PortDevice, write_heads_folder, write_inputs_folder
from harness.faults.stages.evaluate import EvaluateSpec, evaluate_as
from harness.faults.stages.speed import SpeedSpec, claim
from harness.run import stages
from harness.run.options import CheckOptions
from harness.run.reference import Reference
from harness.run.session import Session

BATCHES = (1, 4)
FOUND_IN: dict[FaultStage, str] = {
    "preprocess": "preprocess", "network": "heads", "heads": "heads", "numeric": "heads", "batch": "batch",
    "decode": "detections", "results": "detections", "evaluate": "evaluate", "speed": "speed",
}  # fmt: skip
"""By stage of a fault: the stage of the suite in which it must be found."""
DEVICE_STAGES = ("network", "heads", "numeric", "batch")


@dataclass(frozen=True)
class Found:
    """Stages in which a port was judged.

    Attributes:
        failed: Those that deviate.
        passed: Those that conform.
    """

    failed: frozenset[str]
    passed: frozenset[str]


class Adequacy:
    """The suite over one model and small images.

    Args:
        case: The model.
        root: An empty folder.
        precision: That its ports claim.
    """

    def __init__(self, case: Case, root: Path, precision: str = "fp32") -> None:
        self.case, self.root, self.precision = case, root, precision
        self.counter = 0

    @cached_property
    def dataset(self) -> Dataset:
        """Small images with the truth that most of what the right port finds is."""
        images = make_images(self.root / "coco")
        return annotate(self.root / "coco", rows_of_port(self.case.port(PortSpec()), images))

    @cached_property
    def session(self) -> Session:
        """A check of no device yet, over this model and these images."""
        coco = self.dataset.folder.parent
        options = CheckOptions((), self.case.card, coco=coco, batch_sizes=BATCHES, precision=self.precision)
        return Session(options, self.root, print, subject=self.case.subject)

    @cached_property
    def reference(self) -> Reference:
        """The reference that files are held to."""
        return Reference(self.case.subject)

    def judge(self, fault: AnyFault, params: Params) -> Found:
        """Judge a port with this mistake."""
        spec = fault.apply(PortSpec(), params)
        return self.judge_port(spec) if fault.stage in DEVICE_STAGES else self.judge_files(spec)

    def judge_port(self, spec: PortSpec, *, half: bool = False) -> Found:
        """Judge a port that runs as a device."""
        card = load_device_card(CARDS / "torch.toml").model_copy(update={"precisions": ("fp32", "fp16")})
        return self.judge_device(PortDevice(card, spec, half=half))

    def judge_device(self, device: Device) -> Found:
        """Judge any device by its heads, batches and decisions."""
        self.counter += 1
        name = f"port-{self.counter}"
        self.session.add_device(name, device)
        results = [
            check(self.session, name, size).stage
            for size in BATCHES
            for check in (stages.heads, stages.batch, stages.decisions)
        ]
        failed = frozenset(stage.name for stage in results if stage.outcome == "failed")
        passed = frozenset(stage.name for stage in results if stage.outcome == "passed")
        return Found(failed, passed - failed)

    def judge_files(self, spec: PortSpec) -> Found:
        """Judge the files that a port writes: inputs, heads, results, figures and a log."""
        self.counter += 1
        folder, dataset = self.root / f"files-{self.counter}", self.dataset
        port, stems = self.case.port(spec), file_stems(dataset)
        images = [dataset.read_image(image_id) for image_id in dataset.image_ids]
        write_inputs_folder(folder / "inputs", stems.values(), (array for array, _ in port.inputs(images)))
        write_heads_folder(folder / "heads", stems.values(), port.heads(images))
        rows = rows_of_port(port, dataset)
        metrics = evaluate_as(spec.evaluate, dataset.instances, rows) if _known(rows, dataset) else None
        files = PortFiles(folder / "inputs", folder / "heads", rows, metrics, claim(example_log(), spec.speed))
        judged = judge_files(self.reference, dataset, files)
        failed = {stage for stage, found in judged.items() if any(one.problem for one in found)}
        return Found(frozenset(failed), frozenset(judged.keys() - failed))


def _known(rows: list[dict[str, Any]], dataset: Dataset) -> bool:
    categories = {category.id for category in dataset.instances.categories}
    return {row["category_id"] for row in rows} <= categories


def example_log() -> SpeedLog:
    """A benchmark of 22 images in batches of 4 on one chip of two, the first batch slow."""
    random = np.random.default_rng(5)
    batches, now = [], 0.0
    for number in range(6):
        took = float(random.uniform(20, 30)) * (4 if number == 0 else 1)
        times = {"start_ms": now, "enqueued_ms": now + 0.05 * took, "done_ms": now + took}
        batches.append(BatchTime(images=2 if number == 5 else 4, **times))
        now += took + 0.01
    right = SpeedLog(batch_size=4, chips=2, warm_up=1, batches=tuple(batches), fps=1.0)
    return claim(right, SpeedSpec())


def invisible(suite: Adequacy, fault: AnyFault, params: Params) -> bool:
    """Tell whether a port with this mistake gives, on these images, to the bit what a right one gives."""
    right, wrong = (suite.case.port(spec) for spec in (PortSpec(), fault.apply(PortSpec(), params)))
    dataset = suite.dataset
    images = [dataset.read_image(image_id) for image_id in dataset.image_ids]
    if fault.stage == "preprocess":
        pairs = zip(right.inputs(images), wrong.inputs(images), strict=True)
        return all(np.array_equal(a, b) for (a, _), (b, _) in pairs)
    if fault.stage in DEVICE_STAGES:
        heads = zip(right.heads(images), wrong.heads(images), strict=True)
        return all(np.array_equal(a[name], b[name]) for a, b in heads for name in a)
    if fault.stage in ("decode", "results"):
        return rows_of_port(right, dataset) == rows_of_port(wrong, dataset)
    if fault.stage == "speed":
        return claim(example_log(), wrong.spec.speed) == claim(example_log(), SpeedSpec())
    rows = rows_of_port(right, dataset)
    wanted = evaluate_as(EvaluateSpec(), dataset.instances, rows)
    return evaluate_as(wrong.spec.evaluate, dataset.instances, rows) == wanted
