"""The contract of a device: a card and three methods."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.cards import DeviceCard
from harness.devices.artifact import Artifact, Exported
from harness.errors import HarnessError
from harness.types import Batch, Outputs


class Device(Protocol):
    """A target that runs CenterNet.

    Not called backend: a device may be a chip, a simulator, an emulation or a folder of outputs made elsewhere. It is
    found through the entry point group ``centernet_conformance.devices`` and constructed without arguments.
    """

    card: DeviceCard

    def check(self) -> None:
        """Raise HarnessError, saying what is missing, where this machine cannot run the device."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Make what the device executes.

        Raises:
            HarnessError: The device cannot take this model, batch size or precision; the message says why.
        """

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch, host arrays in, host arrays out: output tensors by name, in the artifact's order."""


@runtime_checkable
class ByImage(Protocol):
    """A device that needs to know which images it is given, since it has their outputs already."""

    def run_batch(self, artifact: Artifact, batch: Batch) -> Outputs:
        """The outputs of one batch, as `Device.run` returns them."""


def run_batch(device: Device, artifact: Artifact, batch: Batch) -> Outputs:
    """Run one batch on a device of either kind."""
    return device.run_batch(artifact, batch) if isinstance(device, ByImage) else device.run(artifact, batch.images)


def require_request(card: DeviceCard, exported: Exported, precision: str) -> None:
    """What every `convert` refuses first.

    Raises:
        HarnessError: The device does not take this dialect or precision.
    """
    if precision not in card.precisions:
        raise HarnessError(
            f"device '{card.name}' does not run {precision}",
            field="--precision",
            remedy=f"use {' or '.join(card.precisions)}, or another device",
        )
    if exported.dialect != card.dialect:
        raise HarnessError(
            f"device '{card.name}' takes the dialect '{card.dialect}', and this model is of '{exported.dialect}'",
            file=exported.path,
            remedy=f"export the model to '{card.dialect}'",
        )
