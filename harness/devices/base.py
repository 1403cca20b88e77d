"""Contract of a device: a card, and four methods."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.cards import DeviceCard
from harness.devices.artifact import Artifact, Exported
from harness.devices.link import InProcess, Link, Runner
from harness.devices.runners.serve import timed
from harness.errors import HarnessError
from harness.types import Batch, Outputs


class Device(Protocol):
    """A target that runs CenterNet: a chip, a simulator, an emulation, or a folder of outputs made elsewhere.

    It is found through the entry point group ``centernet_conformance.devices``. A device of another distribution is
    constructed without arguments, in a process of its own, and may leave out `close`.
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

    def close(self) -> None:
        """Release everything that `convert` opened. Whoever created the device calls it; more than once is allowed."""


@runtime_checkable
class ByImage(Protocol):
    """A device that needs to know which images it is given, since it has their outputs already."""

    def run_batch(self, artifact: Artifact, batch: Batch) -> Outputs:
        """Return the outputs of one batch, as `Device.run` does."""


@runtime_checkable
class TimesItself(Protocol):
    """A device whose runner takes the time, as close to the chip as host arrays are."""

    def time(self, artifact: Artifact, images: NDArray[np.generic], rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` runs of one batch."""


class RunnerDevice:
    """Host part that devices with a runner share: run, time and close through the link that `convert` opened.

    Args:
        card: The contract of the device.
    """

    def __init__(self, card: DeviceCard) -> None:
        self.card = card
        self._links: list[Link] = []

    def open(self, runner: Runner, spec: dict[str, Any]) -> InProcess:
        """Load a model into a runner in this process; `close` releases it."""
        link = InProcess(runner, spec)
        self._links.append(link)
        return link

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch; C-contiguous images are not copied."""
        link: Any = artifact.payload
        outputs: Outputs = link.run(images)
        return outputs

    def time(self, artifact: Artifact, images: NDArray[np.generic], rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` runs of one batch, taken in the runner."""
        link: Any = artifact.payload
        seconds: list[float] = link.time(images, rounds)
        return seconds

    def close(self) -> None:
        """Release every model that was loaded."""
        links, self._links = self._links, []
        with ExitStack() as stack:  # one that fails does not keep the others open
            for link in links:
                stack.callback(link.close)


def run_batch(device: Device, artifact: Artifact, batch: Batch) -> Outputs:
    """Run one batch on a device of either kind."""
    return device.run_batch(artifact, batch) if isinstance(device, ByImage) else device.run(artifact, batch.images)


def time_batches(device: Device, artifact: Artifact, images: NDArray[np.generic], rounds: int) -> list[float]:
    """Return the seconds of each of `rounds` runs of one batch, host arrays in, host arrays out.

    The clock is the runner's, in the process that holds the chip; a device without a runner is timed from outside.
    """
    if isinstance(device, TimesItself):
        return device.time(artifact, images, rounds)
    return timed(lambda given: device.run(artifact, given), images, rounds)


def close_devices(devices: Iterable[Device]) -> None:
    """Close every device, the last first, even where one of them fails; the first failure is raised at the end."""
    with ExitStack() as stack:
        for device in devices:
            stack.callback(device.close)


def dialects() -> tuple[str, ...]:
    """Return the names that `DeviceCard.dialect` may have."""
    from harness.export import DIALECTS  # PyTorch takes seconds to load

    return ("module", *DIALECTS, "none")


def require_request(card: DeviceCard, exported: Exported, precision: str) -> None:
    """Refuse a model or precision that a device does not take; every `convert` begins with this.

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
