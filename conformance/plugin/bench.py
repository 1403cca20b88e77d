"""What the tests of a device stand on, each made once: model, data, devices, heads, detections."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from conformance.plugin.config import SuiteConfig
from conformance.plugin.progress import Progress
from harness.cards.tolerances import Tolerance, load_tolerance
from harness.centernet.heads import check_contract, read_heads
from harness.centernet.preprocess import preprocess
from harness.checks.bootstrap import Difference, paired_bootstrap
from harness.checks.evaluate import Metrics, evaluate
from harness.checks.matching import Matches, match
from harness.data.calibration import Calibration
from harness.data.dataset import Dataset, load_coco
from harness.data.detections import Results, load_results, save_results
from harness.data.synthetic import embedded_dataset_root, load_spec
from harness.devices.artifact import Artifact
from harness.devices.base import Device
from harness.devices.outputs import OutputsDevice
from harness.devices.registry import create_device
from harness.errors import HarnessError
from harness.exchange.output_folder import open_outputs
from harness.export.load import load_onnx_checked, stated_by
from harness.faults.diagnosis.explanation import Explanation
from harness.report.records import Data
from harness.run.limits import HeadLimits
from harness.run.pipeline import Timing, batches, detect, run_batches
from harness.run.subject import Subject, load_subject
from harness.types import Heads

Ran = tuple[str, int, str]
"""Device, batch size, precision."""

GOLDEN = "fp32"
"""Precision of the golden heads, whatever the device that gives them is asked for."""

UNTIMED_AT_ONCE = min(4, os.cpu_count() or 1)
"""Batches that the reference works on at a time: torchvision's deformable convolution uses one thread of the host."""

HEAD_SAMPLES = 8
"""Images whose heads are compared one by one; every image enters by its detections."""


class Bench:
    """Everything that the tests of the devices share.

    Args:
        config: The options.
        shared: Folder that the processes of this run share.
        say: Told how long work goes on.
    """

    def __init__(self, config: SuiteConfig, shared: Path, say: Callable[[str], None]) -> None:
        self.config = config
        self.card = config.card
        self.shared = shared
        self.say = say
        self._devices: dict[str, Device] = {}
        self._artifacts: dict[Ran, Artifact] = {}
        self._heads: dict[Ran, list[Heads]] = {}
        self._timings: dict[tuple[*Ran, str], Timing] = {}
        self.explained: dict[str, Explanation] = {}

    def check(self) -> None:
        """Raise HarnessError where something that was asked for is missing or wrong."""
        self.check_devices()
        for device in map(self.device, self.config.devices):
            device.check()
            if self.config.precision not in device.card.precisions:
                raise HarnessError(
                    f"device '{device.card.name}' has no precision '{self.config.precision}'",
                    field="--precision",
                    remedy=f"use one of {', '.join(device.card.precisions)}",
                )
        _ = self.subject, self.dataset
        if self.config.onnx is not None:
            stated = stated_by(load_onnx_checked(self.config.onnx))
            for batch_size in self.config.batch_sizes:
                check_contract(self.card, stated, batch_size, self.config.onnx)

    def check_devices(self) -> None:
        """Raise HarnessError where a device is not known or cannot be made."""
        for name in self.config.devices:
            self.device(name)

    @cached_property
    def subject(self) -> Subject:
        """The model."""
        return load_subject(self.card, self.config.weights, self.config.onnx)

    @cached_property
    def dataset(self) -> Dataset:
        """The images."""
        return load_coco(self.config.coco or embedded_dataset_root("val"), limit=self.config.limit)

    def first_images(self, count: int) -> Dataset:
        """The first `count` images of the data set."""
        return self.dataset.first(count)

    @cached_property
    def data(self) -> Data:
        """The images, for the report."""
        images = len(self.dataset)
        if self.config.coco is not None:
            return Data(name=self.config.coco.name, images=images, sha256=self.dataset.content_hash)
        # The pixels are those of the specification; the files that hold them differ between versions of OpenCV.
        part = load_spec().part("val")
        first = part.sha256 if images == part.images else sha256(f"{part.sha256} {images}".encode()).hexdigest()
        return Data(name="embedded", images=images, sha256=first)

    @cached_property
    def tolerance(self) -> Tolerance:
        """That of the run's precision."""
        return load_tolerance(self.config.precision)

    def device(self, name: str) -> Device:
        """A device by name."""
        if name not in self._devices:
            folder = self.config.outputs
            asked = name in self.config.devices
            self._devices[name] = create_device(name) if folder is None or not asked else self._outputs(folder)
        return self._devices[name]

    def _outputs(self, folder: Path) -> Device:
        """What was made elsewhere, in the place of the device that it is said to come from."""
        chip = None if self.config.made_by is None else create_device(self.config.made_by).card
        return OutputsDevice(folder, chip, self.card, lambda: open_outputs(self.card, self.dataset, folder))

    def artifact(self, name: str, batch_size: int, precision: str | None = None) -> Artifact:
        """What a device executes, at the precision of the run or another, converted at most once in this process."""
        precision = precision or self.config.precision
        key = (name, batch_size, precision)
        if key not in self._artifacts:
            device = self.device(name)
            calibration = self.calibration if precision == "int8" else None
            with FileLock(self.shared / "export.lock"):
                exported = self.subject.exported(device.card, self.shared, batch_size, calibration)
            self._artifacts[key] = device.convert(exported, batch_size, precision)
        return self._artifacts[key]

    @cached_property
    def calibration(self) -> Calibration:
        """Images for post-training quantisation: of the whole data set, whatever part of it is checked."""
        whole = load_coco(self.config.coco or embedded_dataset_root("val"))
        return Calibration(self.card, whole, self.config.calibration_images)

    @property
    def reference_name(self) -> str:
        """Name of the device that gives the golden heads."""
        return self.subject.reference.card.name

    @property
    def reference_batch_size(self) -> int:
        """1, or the only batch size that an ONNX without weights takes."""
        return 1 if self.subject.module is not None else self.card.batch_sizes[0]

    @cached_property
    def sample_ids(self) -> tuple[int, ...]:
        """Images whose heads are compared, spread over the data set."""
        ids = self.dataset.image_ids
        places = np.linspace(0, len(ids) - 1, min(HEAD_SAMPLES, len(ids))).round().astype(int)
        return tuple(ids[i] for i in places)

    def heads(self, name: str, batch_size: int, precision: str | None = None) -> list[Heads]:
        """Heads of the sample images, one record an image, at the precision of the run or another."""
        key = (name, batch_size, precision or self.config.precision)
        if key not in self._heads:
            device, artifact = self.device(name), self.artifact(*key)
            found: list[Heads] = []
            prepared = batches(self.card, self.dataset, batch_size, self.sample_ids)
            for batch, outputs, _ in run_batches(device, artifact, prepared, self._at_once(name)):
                heads = read_heads(self.card, outputs, len(batch.images))
                found += [_sample(heads, i) for i in range(len(batch.image_ids))]
            self._heads[key] = found
        return self._heads[key]

    def _at_once(self, name: str) -> int:
        return 1 if name in self.config.devices else UNTIMED_AT_ONCE

    @cached_property
    def reference_heads(self) -> list[Heads]:
        """The golden heads of the sample images."""
        return self.heads(self.reference_name, self.reference_batch_size, GOLDEN)

    def is_reference(self, name: str, batch_size: int) -> bool:
        """Whether this run of the device is what gives the golden heads."""
        reference = (self.reference_name, self.reference_batch_size, GOLDEN)
        return (name, batch_size, self.config.precision) == reference

    def sample_labels(self, batch_size: int) -> list[str]:
        """Image and place in its batch of each of the sample images, for messages."""
        return [f"image {id_}, sample {place % batch_size}" for place, id_ in enumerate(self.sample_ids)]

    def limited_pairs(self, name: str, batch_size: int) -> list[tuple[tuple[str, Heads, Heads], dict[str, float]]]:
        """Label, heads of the device and golden heads, and what they may differ by.

        The reference itself is held to a second opinion.
        """
        golden = self.second_opinion if self.is_reference(name, batch_size) else self.reference_heads
        pairs = zip(self.sample_labels(batch_size), self.heads(name, batch_size), golden, strict=True)
        return list(zip(pairs, self.allowed, strict=True))

    @cached_property
    def second_opinion(self) -> list[Heads]:
        """Heads of the sample images, computed in another way than the reference does."""
        with ThreadPoolExecutor(UNTIMED_AT_ONCE) as pool:
            return list(pool.map(self.subject.second_opinion, self._sample_inputs))

    @cached_property
    def _sample_inputs(self) -> list[NDArray[np.generic]]:
        return [preprocess(self.card, self.dataset.read_image(image_id))[0][None] for image_id in self.sample_ids]

    @cached_property
    def allowed(self) -> tuple[dict[str, float], ...]:
        """Largest absolute difference of each head, by sample image."""
        limits = HeadLimits(self.subject, self.config.precision)
        samples = zip(self._sample_inputs, self.reference_heads, self.second_opinion, strict=True)
        return tuple(limits.of(*sample) for sample in samples)

    def moved(self, name: str) -> tuple[dict[str, float], ...]:
        """By how much the precision of the run moves each head of each sample image, on a device and alone.

        What a batch adds to that must be less, where nothing says how much less.
        """
        pairs = zip(self.heads(name, 1), self.reference_heads, strict=True)
        return tuple(
            {head: float(np.abs(values - golden[head]).max()) for head, values in own.items()} for own, golden in pairs
        )

    def detections(
        self, name: str, batch_size: int, precision: str | None = None, reading: str = ""
    ) -> tuple[Results, Timing | None]:
        """Detections of all images; the time only where this process has run them itself.

        Args:
            name: Of the device.
            batch_size: Images given to the device at a time.
            precision: Other than that of the run.
            reading: Another reading of what is not known about the device, one of `Findings.readings`.
        """
        key = (name, batch_size, precision or self.config.precision, reading)
        place = "-".join([name.replace(":", "_"), str(batch_size), key[2], *reading.split()])
        path = self.shared / f"detections-{place}.npz"
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                return load_results(path), self._timings.get(key)
            progress = Progress(f"{name}, batch size {batch_size}{reading and f', {reading}'}", self.say)
            device, artifact = self.device(name), self.artifact(*key[:3])
            artifact = artifact.findings.readings[reading] if reading else artifact
            results, timing = detect(
                device, artifact, self.card, self.dataset, batch_size, progress, self._at_once(name)
            )
            save_results(results, path)
            self._timings[key] = timing
            return results, timing

    def other_readings(self, name: str, batch_size: int) -> dict[str, float]:
        """AP by every other reading of what is not known about the device, at the first batch size of the run."""
        if batch_size != self.config.batch_sizes[0]:
            return {}
        readings = self.artifact(name, batch_size).findings.readings
        return {
            reading: self.evaluate(self.detections(name, batch_size, reading=reading)[0]).AP for reading in readings
        }

    def evaluate(self, results: Results) -> Metrics:
        """AP of detections on the images of the run."""
        return evaluate(self.dataset.instances, results, self.card.category_ids)

    @cached_property
    def reference_metrics(self) -> Metrics:
        """AP of the reference on the images of the run."""
        return self.evaluate(self._reference_results)

    def difference(self, results: Results) -> Difference:
        """How the AP of detections differs from the reference's, and how far that hangs on the images."""
        return paired_bootstrap(self._matched(results), self._reference_matches)

    @cached_property
    def _reference_matches(self) -> Matches:
        return self._matched(self._reference_results)

    @cached_property
    def _reference_results(self) -> Results:
        return self.detections(self.reference_name, self.reference_batch_size, GOLDEN)[0]

    def _matched(self, results: Results) -> Matches:
        return match(self.dataset.instances, results, self.card.category_ids)


def _sample(heads: Heads, index: int) -> Heads:
    keep = slice(index, index + 1)
    return {name: values[keep] for name, values in heads.items()}
