"""Brings a faulty port to the suite by its door, and says in which stages the suite finds it wrong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from conformance.catalogue.cases import Case, annotate, make_images, rows_of_port
from conformance.device import test_heads
from conformance.plugin.bench import Bench
from conformance.plugin.config import SuiteConfig
from conformance.plugin.recorder import PROPERTY, Recorder, StageFailure
from harness.cards import load_device_card
from harness.cards.device import CARDS
from harness.checks.files import Golden, PortFiles, judge_files
from harness.data.dataset import Dataset
from harness.devices.base import Device
from harness.exchange.speed_log import BatchTime, SpeedLog
from harness.exchange.stems import file_stems
from harness.faults import AnyFault, PortSpec
from harness.faults.fault import FaultStage, Params
from harness.faults.port import PortDevice, write_heads_folder, write_inputs_folder
from harness.faults.stages.evaluate import EvaluateSpec, evaluate_as
from harness.faults.stages.speed import SpeedSpec, claim
from harness.report.records import Reported, Stage, unpack

BATCHES = (1, 4)
FOUND_IN: dict[FaultStage, str] = {
    "preprocess": "preprocess", "network": "heads", "heads": "heads", "numeric": "heads", "batch": "batch",
    "decode": "detections", "results": "detections", "evaluate": "evaluate", "speed": "speed",
}  # fmt: skip
"""In which stage of the suite a fault of each stage must be found."""
DEVICE_STAGES = ("network", "heads", "numeric", "batch")


@dataclass(frozen=True)
class Verdict:
    """What the suite says.

    Attributes:
        failed: Stages that deviate.
        passed: Stages that conform.
    """

    failed: frozenset[str]
    passed: frozenset[str]


class Court:
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
    def bench(self) -> Bench:
        """That of the device tests, over this model."""
        values = {"card": self.case.card, "precision": self.precision, "batch_sizes": BATCHES, "limit": None}
        nothing = {"devices": (), "outputs": None, "made_by": None, "onnx": None, "weights": None, "workers": 0}
        config = cast(SuiteConfig, SimpleNamespace(**values, **nothing, coco=self.dataset.folder.parent))
        bench = Bench(config, self.root, lambda text: None)
        bench.__dict__["subject"] = self.case.subject
        return bench

    @cached_property
    def golden(self) -> Golden:
        """The reference that files are held to."""
        return Golden(self.case.subject)

    def judge(self, fault: AnyFault, params: Params) -> Verdict:
        """Bring a port with this mistake to the suite."""
        spec = fault.apply(PortSpec(), params)
        return self.judge_device(spec) if fault.stage in DEVICE_STAGES else self.judge_files(spec)

    def judge_device(self, spec: PortSpec, *, half: bool = False) -> Verdict:
        """By the door of a device class."""
        card = load_device_card(CARDS / "torch.toml").model_copy(update={"precisions": ("fp32", "fp16")})
        return self.judge_class(PortDevice(card, spec, half=half))

    def judge_class(self, device: Device) -> Verdict:
        """The device tests of the suite, on any device."""
        self.counter += 1
        name = f"port-{self.counter}"
        bench = self.bench
        bench._devices[name] = device
        failed, passed = set[str](), set[str]()
        for size in BATCHES:
            for test in (
                test_heads.test_device_heads_equal_reference,
                test_heads.test_sample_in_a_batch_equals_the_sample_alone,
                test_heads.test_device_decides_as_the_reference,
            ):
                item: Any = SimpleNamespace(user_properties=[])
                try:
                    test(bench, Recorder(cast(pytest.Item, item), name, self.precision, size), name, size)
                except StageFailure as failure:
                    failed.add(failure.stage)
                passed |= {stage for stage in _stages(item) if stage not in failed}
        return Verdict(frozenset(failed), frozenset(passed - failed))

    def judge_files(self, spec: PortSpec) -> Verdict:
        """By the door of files: inputs, heads, results, figures and a log, each written by the port."""
        self.counter += 1
        folder, dataset = self.root / f"files-{self.counter}", self.dataset
        port, stems = self.case.port(spec), file_stems(dataset)
        images = [dataset.read_image(image_id) for image_id in dataset.image_ids]
        write_inputs_folder(folder / "inputs", stems.values(), (array for array, _ in port.inputs(images)))
        write_heads_folder(folder / "heads", stems.values(), port.heads(images))
        rows = rows_of_port(port, dataset)
        files = PortFiles(
            folder / "inputs",
            folder / "heads",
            rows,
            evaluate_as(spec.evaluate, dataset.instances, rows) if _known(rows, dataset) else None,
            claim(made_up_log(), spec.speed),
        )
        judged = judge_files(self.golden, dataset, files)
        failed = {stage for stage, found in judged.items() if any(one.problem for one in found)}
        return Verdict(frozenset(failed), frozenset(judged.keys() - failed))


def _stages(item: Any) -> list[str]:  # noqa: ANN401 - a stand-in for pytest's item
    messages = [unpack(value) for name, value in item.user_properties if name == PROPERTY]
    records = [message.record for message in messages if isinstance(message, Reported)]
    return [record.name for record in records if isinstance(record, Stage) and record.outcome == "passed"]


def _known(rows: list[dict[str, Any]], dataset: Dataset) -> bool:
    categories = {category.id for category in dataset.instances.categories}
    return {row["category_id"] for row in rows} <= categories


def made_up_log() -> SpeedLog:
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


def invisible(court: Court, fault: AnyFault, params: Params) -> bool:
    """Whether a port with this mistake gives, on these images, to the bit what a right one gives."""
    right, wrong = (court.case.port(spec) for spec in (PortSpec(), fault.apply(PortSpec(), params)))
    dataset = court.dataset
    images = [dataset.read_image(image_id) for image_id in dataset.image_ids]
    if fault.stage == "preprocess":
        pairs = zip(right.inputs(images), wrong.inputs(images), strict=True)
        return all(np.array_equal(a, b) for (a, _), (b, _) in pairs)
    if fault.stage in ("network", "heads", "numeric", "batch"):
        heads = zip(right.heads(images), wrong.heads(images), strict=True)
        return all(np.array_equal(a[name], b[name]) for a, b in heads for name in a)
    if fault.stage in ("decode", "results"):
        return rows_of_port(right, dataset) == rows_of_port(wrong, dataset)
    if fault.stage == "speed":
        return claim(made_up_log(), wrong.spec.speed) == claim(made_up_log(), SpeedSpec())
    rows = rows_of_port(right, dataset)
    return evaluate_as(wrong.spec.evaluate, dataset.instances, rows) == evaluate_as(
        EvaluateSpec(), dataset.instances, rows
    )


__all__ = ["BATCHES", "FOUND_IN", "Court", "Verdict", "invisible", "made_up_log"]
