"""Places of a session's outputs in the store: everything that each of them depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.cards import AnyCard, DeviceCard
from harness.data.calibration import Calibration
from harness.data.dataset import Dataset
from harness.devices.artifact import Artifact, Exported
from harness.devices.base import Device
from harness.files import whole_file
from harness.run.ingredients import device_code, surroundings
from harness.run.options import CheckOptions
from harness.run.store import Shelf, Store
from harness.run.subject import Subject
from harness.run.two_stage import TwoStageSubject

FILE = "file"


@dataclass(frozen=True)
class Shelves:
    """Finds the place of outputs in the store.

    Args:
        store: Of the run.
        options: What is checked.
        subject: The model.
        every_image: Gives the whole data set, from which int8 takes its ranges.
    """

    store: Store
    options: CheckOptions
    subject: Subject | TwoStageSubject
    every_image: Callable[[], Dataset]

    def place(
        self,
        device: Device,
        artifact: Artifact,
        batch_size: int,
        precision: str,
        reading: str = "",
    ) -> Shelf | None:
        """Return the place of what a device gives; None where its code is not known, or nothing is computed here.

        Args:
            device: That gives them.
            artifact: That it executes.
            batch_size: Images given to it at a time.
            precision: Of the artifact.
            reading: That of what is not known about the device, see `Findings.readings`.
        """
        name = device.card.name
        code = device_code(name, device)
        if code is None:
            return None
        given = {
            **self._model,
            **surroundings(device.card),
            "device": device.card.model_dump(mode="json"),
            "device code": code,
            "executed": artifact.executed,
            "batch size": batch_size,
            "precision": precision,
            "reading": reading,
        }
        if precision == "int8":
            given["calibration"] = [self.options.calibration_images, self.every_image().content_hash]
        return self.store.shelf(given, judged=name in self.options.devices)

    def exported(self, device: DeviceCard, folder: Path, batch_size: int, calibration: Calibration | None) -> Exported:
        """Return the model in the dialect of a device, as `Subject.exported` does; the file is stored.

        Args:
            device: Says the dialect.
            folder: Of the file.
            batch_size: Of the file, in the dialects that have static shapes.
            calibration: Handed on to the device.
        """
        subject, given = self.subject, (device, folder, batch_size, calibration)
        if isinstance(subject, TwoStageSubject) or not subject.is_exported_to(device.dialect):
            return subject.exported(*given)
        shelf = self.store.shelf({**self._model, **surroundings(device)}, judged=False)
        file = folder / subject.export_name(device.dialect, batch_size)
        entry = None if file.exists() else shelf.load([file.name])
        if entry is not None and FILE in entry.arrays:
            with whole_file(file) as partial:
                partial.write_bytes(entry.arrays[FILE].tobytes())
        made = not file.exists()
        exported = subject.exported(*given)
        if made:
            shelf.save([file.name], {FILE: np.fromfile(file, np.uint8)})
        return exported

    def begin(self, images: str) -> str | None:
        """Begin the run, or go on with the same, where that was interrupted; return when it began.

        Args:
            images: Hash of those of the run.
        """
        options = self.options
        sizes, shard = options.batch_sizes, None if options.shard is None else str(options.shard)
        asked = (options.devices, options.precision, sizes, options.calibration_images, images, shard)
        return self.store.begin({**self._model, "asked for": asked})

    @property
    def _model(self) -> Mapping[str, object]:
        card: AnyCard = self.options.card
        return {
            "model": card.model_dump(mode="json"),
            "weights": self.subject.weights_sha256,
            "onnx": self.subject.onnx_sha256,
        }
