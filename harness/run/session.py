"""Session: model, data, devices, heads and detections of one check, each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from harness.cache import content_key
from harness.cards import require_one_stage
from harness.cards.tolerances import Tolerance
from harness.centernet.heads import check_contract
from harness.checks.bootstrap import Difference, paired_bootstrap
from harness.checks.evaluate import Metrics, evaluate
from harness.checks.matching import Matches, match
from harness.checks.shown_faults import ShownFaults, show_faults
from harness.data.calibration import Calibration
from harness.data.dataset import Dataset
from harness.data.detections import Results, load_results, save_results
from harness.devices.artifact import Artifact
from harness.devices.base import Device, close_devices
from harness.devices.outputs import OutputsDevice
from harness.devices.registry import create_device
from harness.errors import HarnessError
from harness.exchange.output_folder import open_outputs
from harness.export.load import load_onnx_checked, stated_by
from harness.faults.diagnosis.explanation import Explanation
from harness.report.records import Data
from harness.run.against import check_against, load_old_subject
from harness.run.family import family_of
from harness.run.images import describe_images, load_images
from harness.run.kept_heads import KeptHeads, load_kept_heads
from harness.run.options import CheckOptions
from harness.run.pipeline import batches, detect, run_batches
from harness.run.progress import ShowProgress, in_lines
from harness.run.reference import AT_ONCE, GOLDEN, Reference, split_samples
from harness.run.speed import Timing
from harness.run.subject import Subject
from harness.run.two_stage import TwoStageReference, TwoStageSubject, load_any_subject
from harness.types import Heads

Ran = tuple[str, int, str]
"""Name of a device, batch size, precision."""
HEAD_SAMPLES = 8
"""Images whose heads are compared one by one, in a run of their own and in that over all images, which begins with the
first and ends with the last of them; every image enters by its detections."""


class Session:
    """Everything that the checks of the devices share.

    Args:
        options: What is checked.
        shared: Folder for exported files and detections, shared by the processes of one run.
        say: Called with signs of life.
        progress: Shows how far long work is; by default in plain lines.
        subject: The model, where it is not to be loaded as the options say.
    """

    def __init__(
        self,
        options: CheckOptions,
        shared: Path,
        say: Callable[[str], None],
        progress: ShowProgress | None = None,
        subject: Subject | None = None,
    ) -> None:
        self.options = options
        self.card = options.card
        self.shared = shared
        self.say = say
        self.progress = progress or in_lines(say)
        self.explained: dict[str, Explanation] = {}
        self._subject = subject
        self._devices: dict[str, Device] = {}
        self._artifacts: dict[Ran, Artifact] = {}
        self._heads: dict[Ran, list[Heads]] = {}
        self._timings: dict[tuple[*Ran, str], Timing] = {}

    def check(self) -> None:
        """Raise HarnessError where something that was asked for is missing or wrong."""
        self.check_devices()
        for device in map(self.device, self.options.devices):
            device.check()
            if self.options.precision not in device.card.precisions:
                raise HarnessError(
                    f"device '{device.card.name}' has no precision '{self.options.precision}'",
                    field="--precision",
                    remedy=f"use one of {', '.join(device.card.precisions)}",
                )
        _ = self.subject, self.dataset
        if self.options.onnx is not None:
            stated = stated_by(load_onnx_checked(self.options.onnx))
            for batch_size in self.options.batch_sizes:
                check_contract(require_one_stage(self.card), stated, batch_size, self.options.onnx)
        check_against(self)

    def check_devices(self) -> None:
        """Raise HarnessError where a device is not known or cannot be made."""
        for name in self.options.devices:
            self.device(name)

    @cached_property
    def subject(self) -> Subject | TwoStageSubject:
        """The model."""
        return self._subject or load_any_subject(self.card, self.options.weights, self.options.onnx)

    @cached_property
    def old_subject(self) -> Subject | TwoStageSubject:
        """The model that ``--against`` names as a file."""
        assert self.options.against is not None
        return load_old_subject(self.card, Path(self.options.against))

    @cached_property
    def reference(self) -> Reference:
        """Golden heads of a one-stage model, and what the heads at the run's precision may differ by.

        Raises:
            HarnessError: The model is a two-stage detector.
        """
        require_one_stage(self.card)
        assert isinstance(self.subject, Subject)
        return Reference(self.subject, self.options.precision)

    @cached_property
    def two_stage(self) -> TwoStageReference:
        """The golden detections of a two-stage detector, and what those at the run's precision may differ by."""
        assert isinstance(self.subject, TwoStageSubject)
        return TwoStageReference(self.subject, self.options.precision)

    @property
    def golden(self) -> Reference | TwoStageReference:
        """The reference of either kind of model."""
        return self.two_stage if isinstance(self.subject, TwoStageSubject) else self.reference

    @cached_property
    def dataset(self) -> Dataset:
        """The images."""
        return load_images(self.options.coco, self.options.limit)

    def close(self) -> None:
        """Release everything that the devices hold."""
        close_devices(self._devices.values())

    @cached_property
    def data(self) -> Data:
        """The images, for the report."""
        return describe_images(self.dataset, self.options.coco)

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance of the run's precision."""
        return self.golden.tolerance

    def add_device(self, name: str, device: Device) -> None:
        """Use a device that the registry does not know."""
        self._devices[name] = device

    def device(self, name: str) -> Device:
        """A device by name."""
        if name not in self._devices:
            folder = self.options.outputs
            asked = name in self.options.devices
            self._devices[name] = create_device(name) if folder is None or not asked else self._outputs(folder)
        return self._devices[name]

    def _outputs(self, folder: Path) -> Device:
        """Outputs that were made elsewhere, in the place of the device that they are said to come from."""
        chip = None if self.options.made_by is None else create_device(self.options.made_by).card
        card = require_one_stage(self.card)
        return OutputsDevice(folder, chip, card, lambda: open_outputs(card, self.dataset, folder))

    def artifact(self, name: str, batch_size: int, precision: str | None = None) -> Artifact:
        """The model as a device executes it, at the precision of the run or another; converted once in this process."""
        key = (name, batch_size, precision or self.options.precision)
        if key not in self._artifacts:
            device = self.device(name)
            calibration = self.calibration if key[2] == "int8" else None
            with FileLock(self.shared / "export.lock"):
                exported = self.subject.exported(device.card, self.shared, batch_size, calibration)
            self._artifacts[key] = device.convert(exported, *key[1:])
        return self._artifacts[key]

    @cached_property
    def calibration(self) -> Calibration:
        """Images for post-training quantisation: of the whole data set, whatever part of it is checked."""
        return Calibration(
            require_one_stage(self.card), load_images(self.options.coco), self.options.calibration_images
        )

    @property
    def reference_name(self) -> str:
        """Name of the device that gives the golden heads."""
        return self.golden.device.card.name

    @property
    def reference_batch_size(self) -> int:
        """Number of images that the reference is given at a time."""
        return self.golden.batch_size

    def is_reference(self, name: str, batch_size: int) -> bool:
        """Whether this run of the device is what gives the golden heads."""
        return (name, batch_size, self.options.precision) == (self.reference_name, self.reference_batch_size, GOLDEN)

    @cached_property
    def sample_ids(self) -> tuple[int, ...]:
        """Images whose heads are compared, spread over the data set."""
        ids = self.dataset.image_ids
        places = np.linspace(0, len(ids) - 1, min(HEAD_SAMPLES, len(ids))).round().astype(int)
        return tuple(ids[i] for i in places)

    @cached_property
    def _sample_inputs(self) -> list[NDArray[np.generic]]:
        preprocess = family_of(self.card).preprocess
        return [preprocess(self.card, self.dataset.read_image(image_id))[0][None] for image_id in self.sample_ids]

    def heads(self, name: str, batch_size: int, precision: str | None = None) -> list[Heads]:
        """Heads of the sample images, one record an image, at the precision of the run or another."""
        key = (name, batch_size, precision or self.options.precision)
        if key not in self._heads:
            device, artifact = self.device(name), self.artifact(*key)
            found: list[Heads] = []
            prepared = batches(self.card, self.dataset, batch_size, self.sample_ids)
            for batch, outputs, _ in run_batches(device, artifact, prepared, self._at_once(name)):
                heads = split_samples(family_of(self.card).read_heads(self.card, outputs, len(batch.images)))
                found += heads[: len(batch.image_ids)]
            self._heads[key] = found
        return self._heads[key]

    def _at_once(self, name: str) -> int:
        # Of a device that is judged, the order of its batches and their times count.
        return AT_ONCE if name == self.reference_name and name not in self.options.devices else 1

    @cached_property
    def reference_heads(self) -> list[Heads]:
        """The golden heads of the sample images."""
        return self.reference.each(self.reference.heads, self._sample_inputs)

    @cached_property
    def second_opinion(self) -> list[Heads]:
        """Heads of the sample images, computed in another way than the reference does."""
        return self.reference.each(self.reference.second_opinion, self._sample_inputs)

    @cached_property
    def allowed(self) -> tuple[dict[str, float], ...]:
        """Largest absolute difference of each head, by sample image."""
        samples = zip(self._sample_inputs, self.reference_heads, self.second_opinion, strict=True)
        return tuple(self.reference.allowed(*sample) for sample in samples)

    def kept_heads(self, name: str, batch_size: int) -> dict[int, Heads]:
        """Heads of the sample images as they came in the run over all images, whichever process has run them."""
        self.detections(name, batch_size)
        return load_kept_heads(_beside(self._place(name, batch_size, self.options.precision)))

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
        key = (name, batch_size, precision or self.options.precision, reading)
        path = self._place(*key)
        kept = KeptHeads(self.sample_ids)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                return load_results(path), self._timings.get(key)
            device, artifact = self.device(name), self.artifact(*key[:3])
            artifact = artifact.findings.readings[reading] if reading else artifact
            what = f"{name}, batch size {batch_size}{reading and f', {reading}'}"
            at_once = self._at_once(name)
            with self.progress(what) as progress:
                run = (device, artifact, self.card, self.dataset, batch_size, progress, at_once)
                results, timing = detect(*run, kept.take)
            kept.save(_beside(path))
            save_results(results, path)
            self._timings[key] = timing
            return results, timing

    def _place(self, name: str, batch_size: int, precision: str, reading: str = "") -> Path:
        return self.shared / f"detections-{content_key({'of': (name, batch_size, precision, reading)})}.npz"

    def other_readings(self, name: str, batch_size: int) -> dict[str, float]:
        """AP by every other reading of what is not known about the device, at the first batch size of the run."""
        if batch_size != self.options.batch_sizes[0]:
            return {}
        readings = self.artifact(name, batch_size).findings.readings
        return {one: self.evaluate(self.detections(name, batch_size, reading=one)[0]).AP for one in readings}

    def evaluate(self, results: Results) -> Metrics:
        """AP of detections on the images of the run."""
        return evaluate(self.dataset.instances, results, self.card.category_ids)

    @cached_property
    def reference_metrics(self) -> Metrics:
        """AP of the reference on the images of the run."""
        return self.evaluate(self.reference_results)

    @property
    def decided_by_ap(self) -> bool:
        """Whether AP alone decides: no tolerance of the heads, or no PyTorch network to take golden heads from."""
        return self.golden.decided_by_ap

    @cached_property
    def shown_faults(self) -> ShownFaults:
        """Faults that the AP of the reference shows on the images of the run."""
        return show_faults(self.card, self.dataset, self.reference_results)

    def difference(self, results: Results) -> Difference:
        """Loss of AP against the reference, with its interval over other images of the same kind."""
        return paired_bootstrap(self._matched(results), self._reference_matches)

    @cached_property
    def _reference_matches(self) -> Matches:
        return self._matched(self.reference_results)

    @cached_property
    def reference_results(self) -> Results:
        """Detections of the reference in all images."""
        return self.detections(self.reference_name, self.reference_batch_size, GOLDEN)[0]

    def _matched(self, results: Results) -> Matches:
        return match(self.dataset.instances, results, self.card.category_ids)


def _beside(detections: Path) -> Path:
    """Place of the heads that are kept of the same run."""
    return detections.with_name(detections.name.replace("detections-", "heads-", 1))
