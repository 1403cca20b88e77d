"""Records of a model on its way to a device: as exported, and as the device executes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cards import AnyCard, ModelCard, require_one_stage
from harness.errors import HarnessError

if TYPE_CHECKING:
    from torch import nn

    from harness.data.calibration import Calibration


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

    card: AnyCard
    dialect: str
    module: nn.Module | None = None
    path: Path | None = None
    calibration: Calibration | None = None

    @property
    def one_stage(self) -> ModelCard:
        """The card of a one-stage model.

        Raises:
            HarnessError: The model is a two-stage detector.
        """
        return require_one_stage(self.card)


@dataclass(frozen=True, slots=True)
class CompilerEstimate:
    """Speed of a model as its compiler estimates it.

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
    """Speed that a tool on another host measured, as the tool states it.

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
class Findings:
    """Facts that a toolchain tells about a model beside the model itself; each is empty where it tells nothing.

    Attributes:
        host_operators: Operators that run on the host's CPU instead of the chip.
        estimate: The compiler's own estimate of the speed.
        losses: Under int8, the first tensors that lose much: the error that each adds to that of its inputs, root mean
            square, as a share of its size.
        stated: Speeds that tools on another host stated.
        readings: Where a property of the chip is not known, the model under each other assumption, by its description.
    """

    host_operators: tuple[str, ...] = ()
    estimate: CompilerEstimate | None = None
    losses: Mapping[str, float] = field(default_factory=dict)
    stated: tuple[StatedSpeed, ...] = ()
    readings: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model as a device executes it.

    Attributes:
        payload: The device's own handle (link to a runner, network, file).
        inputs: The input tensors as the artifact itself states them.
        outputs: The output tensors as the artifact itself states them.
        batch_size: The static batch size; None where any is taken.
        executed: Provider, precision, threads and versions that really execute; for the report.
        findings: Facts that the toolchain tells about it.
    """

    payload: object
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_size: int | None
    executed: dict[str, str] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


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
