"""Session: model, data, devices, heads and detections of one check, each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock

from harness.cache import content_key
from harness.cards import require_one_stage
from harness.cards.tolerances import Tolerance
from harness.data.calibration import Calibration
from harness.data.dataset import Dataset
from harness.data.detections import Results
from harness.devices.artifact import Artifact
from harness.devices.base import Device, close_devices
from harness.devices.outputs import OutputsDevice
from harness.devices.registry import create_device
from harness.exchange.output_folder import open_outputs
from harness.faults.diagnosis.explanation import Explanation
from harness.report.records import Data
from harness.run.against import load_old_subject
from harness.run.detected import Detected, Plan, load_detected
from harness.run.family import family_of
from harness.run.golden import Golden
from harness.run.images import describe_images, load_images
from harness.run.options import CheckOptions
from harness.run.pipeline import batches, run_batches
from harness.run.preconditions import check_preconditions
from harness.run.progress import ShowProgress, in_lines
from harness.run.reference import AT_ONCE, GOLDEN, Reference, split_samples
from harness.run.scoring import Scoring
from harness.run.shelves import Shelves
from harness.run.speed import Timing
from harness.run.store import Store
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
        store: Outputs of earlier runs; None where nothing is stored.
    """

    def __init__(
        self,
        options: CheckOptions,
        shared: Path,
        say: Callable[[str], None],
        progress: ShowProgress | None = None,
        subject: Subject | None = None,
        store: Store | None = None,
    ) -> None:
        self.options, self.store = options, store
        self.card = self.model_card = options.card
        self.shared = shared
        self.say = say
        self.progress = progress or in_lines(say)
        self.explained: dict[str, Explanation] = {}
        self._subject = subject
        self._devices: dict[str, Device] = {}
        self._artifacts: dict[Ran, Artifact] = {}
        self._heads: dict[Ran, list[Heads]] = {}
        self._timings: dict[tuple[*Ran, str], Timing | None] = {}

    def check(self) -> None:
        """Raise HarnessError where something that was asked for is missing or wrong; go on with an interrupted run."""
        check_preconditions(self)
        since = None if self.shelves is None else self.shelves.begin(self.data.sha256)
        if since is not None:
            self.say(f"store: this run was interrupted; it goes on where it was, begun {since} (--fresh begins anew)")

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
        if self.store is not None:
            self.store.close()

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
                makes = self.subject if self.shelves is None else self.shelves
                exported = makes.exported(device.card, self.shared, batch_size, calibration)
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
    def part_ids(self) -> tuple[int, ...]:
        """Images that are run, in order: those of the shard, or all.

        Raises:
            HarnessError: They are too few for so many shards.
        """
        shard, every = self.options.shard, self.dataset.image_ids
        sizes = (*self.options.batch_sizes, self.reference_batch_size)
        return every if shard is None else shard.images(every, sizes)

    @cached_property
    def sample_ids(self) -> tuple[int, ...]:
        """Images whose heads are compared, spread over the data set."""
        ids = self.dataset.image_ids
        places = np.linspace(0, len(ids) - 1, min(HEAD_SAMPLES, len(ids))).round().astype(int)
        return tuple(ids[i] for i in places)

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
    def samples(self) -> Golden:
        """Golden heads of the sample images, and by how much those of a device may differ."""
        golden = self.reference
        shelf = None
        if self.shelves is not None:
            shelf = self.shelves.place(golden.device, golden.artifact, golden.batch_size, GOLDEN)
        return Golden(self.card, golden, self.dataset, self.sample_ids, shelf)

    @cached_property
    def shelves(self) -> Shelves | None:
        """Places of outputs in the store; None where nothing is stored."""
        if self.store is None:
            return None
        return Shelves(self.store, self.options, self.subject, lambda: load_images(self.options.coco))

    def kept_heads(self, name: str, batch_size: int) -> dict[int, Heads]:
        """Heads of the sample images, those of the part, as they came in the run over all, whichever process ran it."""
        return self.detected(name, batch_size).heads

    def has_run(self, name: str, batch_size: int, precision: str | None = None, reading: str = "") -> bool:
        """Whether a process of the run has the detections of all images, so that `detected` runs nothing."""
        return self._place(name, batch_size, precision or self.options.precision, reading).exists()

    def detected(self, name: str, batch_size: int, precision: str | None = None, reading: str = "") -> Detected:
        """Detections of all images of the part, whichever process has run them; the time only where this one has.

        Args:
            name: Of the device.
            batch_size: Images given to the device at a time.
            precision: Other than that of the run.
            reading: Another reading of what is not known about the device, one of `Findings.readings`.
        """
        key = (name, batch_size, precision or self.options.precision, reading)
        path = self._place(*key)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                return load_detected(path, self._timings.get(key))
            device, artifact = self.device(name), self.artifact(*key[:3])
            artifact = artifact.findings.readings[reading] if reading else artifact
            what = f"{name}, batch size {batch_size}{reading and f', {reading}'}"
            shelf = None if self.shelves is None else self.shelves.place(device, artifact, *key[1:])
            images = (self.card, self.dataset, self.part_ids)
            plan = Plan(*images, batch_size, self.sample_ids, self._at_once(name))
            with self.progress(what) as progress:
                found = plan.run(device, artifact, shelf, progress)
            found.save(path)
            self._timings[key] = found.timing
            return found

    def detections(self, name: str, batch_size: int) -> Results:
        """Detections of all images at the precision of the run."""
        return self.detected(name, batch_size).results

    def _place(self, name: str, batch_size: int, precision: str, reading: str = "") -> Path:
        return self.shared / f"detections-{content_key({'of': (name, batch_size, precision, reading)})}.npz"

    def readings(self, name: str, batch_size: int) -> tuple[str, ...]:
        """Other readings of what is not known about the device, at the first batch size of the run."""
        is_first = batch_size == self.options.batch_sizes[0]
        return tuple(self.artifact(name, batch_size).findings.readings) if is_first else ()

    @cached_property
    def scoring(self) -> Scoring:
        """AP of detections on the images of the run."""
        given = (self.card, self.dataset, self.tolerance)
        return Scoring(*given, lambda: self.reference_detected, decided_by_ap=self.decided_by_ap)

    @property
    def decided_by_ap(self) -> bool:
        """Whether AP alone decides: no tolerance of the heads, or no PyTorch network to take golden heads from."""
        return self.golden.decided_by_ap

    @cached_property
    def reference_results(self) -> Results:
        """Detections of the reference in all images."""
        return self.reference_detected.results

    @cached_property
    def reference_detected(self) -> Detected:
        """Detections of the reference in all images, and how many of them were stored."""
        return self.detected(self.reference_name, self.reference_batch_size, GOLDEN)
