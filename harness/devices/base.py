"""What a device is: two methods and a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.calibration import Calibration
from harness.cards import DeviceCard, ModelCard
from harness.errors import HarnessError
from harness.types import Batch, Outputs

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and dtype of an input or output; None is a dynamic dimension, () a shape that is not known."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Exported:
    """A model in the dialect that a device takes.

    Attributes:
        card: The contract of the model.
        dialect: "module" (the PyTorch network) or an export dialect.
        module: The PyTorch network in evaluation mode, float32; None for a foreign ONNX.
        path: The exported file; None for the dialect "module".
        calibration: Images for post-training quantisation; None where the precision is a floating one.
    """

    card: ModelCard
    dialect: str
    module: nn.Module | None = None
    path: Path | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """How fast a compiler believes a model to be.

    Attributes:
        latency_ms: Of one batch, on the chip alone.
        ddr_floor_ms: Time that the traffic with the chip's memory alone takes; None where it is not known.
        note: What the estimate assumes and leaves out.
    """

    latency_ms: float
    ddr_floor_ms: float | None
    note: str


@dataclass(frozen=True, slots=True)
class StatedSpeed:
    """What a tool on another host says it measured.

    Attributes:
        fps: Images a second.
        batch_ms: Of each execution.
        note: Which tool says so, what lies within its time, and what stands beside the figure.
        share: Of what the chip can do at most; None where that is not known.
    """

    fps: float
    batch_ms: tuple[float, ...]
    note: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a device executes.

    Attributes:
        payload: The device's own handle (session, network, file).
        inputs: The input tensors as the artifact itself states them.
        outputs: The output tensors as the artifact itself states them.
        batch_size: The static batch size; None where any is taken.
        executed: What really executes: provider, precision, threads, versions. Stands in the report.
        host_operators: Operators that run on the host's CPU instead of the chip.
        estimate: The compiler's, where there is one.
        losses: Under int8, the first tensors that lose much: what each adds to the error of what it is made from, root
            mean square, as a share of its size; empty where the toolchain does not let us look.
        stated: Speeds that tools on another host stated.
        readings: The same model where something about the chip is not known and could be otherwise, by what that is.
    """

    payload: object
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_size: int | None
    executed: dict[str, str] = field(default_factory=dict)
    host_operators: tuple[str, ...] = ()
    estimate: Estimate | None = None
    losses: dict[str, float] = field(default_factory=dict)
    stated: tuple[StatedSpeed, ...] = ()
    readings: Mapping[str, Artifact] = field(default_factory=dict)


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


def require_batch_size(taken: int | None, batch_size: int, file: Path | None = None) -> None:
    """Hold the batch size asked for to the only one that a static model takes (None: any).

    Raises:
        HarnessError: They differ, or it is not positive.
    """
    if batch_size < 1:
        raise HarnessError(f"no batch of {batch_size} images", field="--batch-sizes", remedy="use 1 or more")
    if taken is not None and taken != batch_size:
        raise HarnessError(
            f"the model takes batches of exactly {taken}, and {batch_size} was asked for",
            file=file,
            field="--batch-sizes",
            remedy=f"use --batch-sizes {taken}, or export the model again with batch size {batch_size} or any",
        )
