"""Reading of a device's output tensors as heads: by name, split if concatenated, checked against the model card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.devices.artifact import Artifact, TensorSpec, require_batch_size
from harness.errors import HarnessError
from harness.types import Heads, Outputs

FLOATS = ("float16", "float32", "float64")

Shape = Sequence[int | None]


class DeviceOutputError(Exception):
    """Error of a device that returns other tensors than the model card promises, with no fault of the user's input.

    Args:
        head: The head or heads that are wrong; None for the outputs as a whole.
        expected: The promise of the card.
        got: The output of the device.
        hint: A probable explanation.
        stage: The stage that found the error.
    """

    def __init__(
        self, head: str | None, expected: str, got: str, hint: str | None = None, stage: str = "heads"
    ) -> None:
        self.head = head
        self.expected = expected
        self.got = got
        self.hint = hint
        self.stage = stage
        super().__init__(head, expected, got, hint, stage)

    def __str__(self) -> str:
        where = self.stage if self.head is None else f"head {self.head}"
        hint = f": {self.hint}" if self.hint else ""
        return f"{where}: expected {self.expected}, got {self.got}{hint}"


def input_spec(card: ModelCard, batch: int | None) -> TensorSpec:
    """Return the input tensor that the card promises; height and width are None for a keep_res card."""
    spec = card.input
    height, width = (None, None) if spec.keep_res else (spec.height, spec.width)
    shape = (batch, 3, height, width) if spec.layout == "NCHW" else (batch, height, width, 3)
    return TensorSpec(spec.name, shape, spec.dtype)


def output_specs(card: ModelCard, batch: int | None) -> tuple[TensorSpec, ...]:
    """Return the output tensors that the card promises, in its order; their dtype stands for any floating one."""
    channels = list(card.head_channels.values())
    if card.output.concatenated:
        channels = [sum(channels)]
    height, width = (None, None) if card.input.keep_res else card.grid
    return tuple(
        TensorSpec(name, (batch, count, height, width), "float32")
        for name, count in zip(card.output.names, channels, strict=True)
    )


def split_heads(card: ModelCard, joined: NDArray[Any]) -> list[NDArray[Any]]:
    """Split heads that are concatenated along the channels (N, sum of channels, h, w), in the card's order."""
    return np.split(joined, np.cumsum(list(card.head_channels.values()))[:-1], axis=1)


def read_heads(card: ModelCard, outputs: Outputs, batch: int) -> Heads:
    """Take the heads from a device's outputs; outputs that the card does not name are ignored.

    Args:
        card: The contract of the model.
        outputs: Outputs of the device for one batch.
        batch: Number of slots of that batch, N, padded ones included.

    Returns:
        Heads (N, channels, h, w), as views of the outputs. Their values are not checked.

    Raises:
        DeviceOutputError: An output is missing, or has another type, dtype or shape than the card promises.
    """
    if any(name not in outputs for name in card.output.names):
        raise DeviceOutputError(None, f"outputs named {_listed(card.output.names)}", _listed(outputs))
    tensors = []
    for spec, label in zip(output_specs(card, batch), _labels(card), strict=True):
        tensors.append(outputs[spec.name])
        _check_tensor(spec, outputs[spec.name], label)
    if card.output.concatenated:
        tensors = split_heads(card, tensors[0])
    heads: dict[str, NDArray[np.floating]] = dict(zip(card.output.heads, tensors, strict=True))
    grids = {head: tensor.shape[2:] for head, tensor in heads.items()}
    if len(set(grids.values())) > 1:
        shown = ", ".join(f"{head} {grid}" for head, grid in grids.items())
        raise DeviceOutputError(None, "heads on one grid", shown)
    return heads


def check_contract(card: ModelCard, artifact: Artifact, batch_size: int, file: Path | None = None) -> None:
    """Check the tensors that an artifact states against the model card, before anything runs.

    Args:
        card: The contract of the model.
        artifact: The result of `Device.convert`.
        batch_size: The batch size of the run.
        file: The file that the artifact was made from, for the message.

    Raises:
        HarnessError: Number, name, shape or dtype of an input or output differ, or the batch size does not fit.
    """
    require_batch_size(artifact.batch_size, batch_size, file)
    wanted = input_spec(card, batch_size)
    if [spec.name for spec in artifact.inputs] != [wanted.name]:
        raise _mismatch(file, "input.name", "inputs", _names(artifact.inputs), wanted.name)
    _check_spec(artifact.inputs[0], wanted, (wanted.dtype,), file, "input")
    outputs = {spec.name: spec for spec in artifact.outputs}
    if any(name not in outputs for name in card.output.names):
        raise _mismatch(file, "output.names", "outputs", _listed(outputs), _listed(card.output.names))
    for wanted in output_specs(card, batch_size):
        _check_spec(outputs[wanted.name], wanted, FLOATS, file, "output")


def _check_spec(spec: TensorSpec, wanted: TensorSpec, dtypes: Sequence[str], file: Path | None, field: str) -> None:
    tensor = f"{field} '{spec.name}'"
    if field == "input":
        # The model must leave a side open that the card leaves open.
        fits, hint = _takes(spec.shape, wanted.shape), _input_hint(spec.shape, wanted.shape)
    else:
        fits, hint = not spec.shape or _fits(spec.shape, wanted.shape), _shape_hint(spec.shape, wanted.shape)
    if not fits:
        raise _mismatch(file, field, f"{tensor} of shape", _shown(spec.shape), _shown(wanted.shape), hint)
    if spec.dtype not in dtypes:
        raise _mismatch(file, field, f"{tensor} of dtype", spec.dtype, " or ".join(dtypes))


def _check_tensor(spec: TensorSpec, tensor: object, label: str) -> None:
    if not isinstance(tensor, np.ndarray):
        raise DeviceOutputError(label, "a NumPy array", type(tensor).__name__)
    if str(tensor.dtype) not in FLOATS:
        raise DeviceOutputError(label, f"one of the dtypes {_listed(FLOATS)}", str(tensor.dtype))
    if not _fits(tensor.shape, spec.shape):
        hint = _shape_hint(tensor.shape, spec.shape)
        raise DeviceOutputError(label, f"shape {_shown(spec.shape)}", _shown(tensor.shape), hint)


def _shape_hint(got: Shape, expected: Shape) -> str | None:
    batch, channels, height, width = expected
    readings: list[tuple[str, Shape]] = [
        ("looks like NHWC", (batch, height, width, channels)),
        ("height and width look swapped", (batch, channels, width, height)),
        ("the batch dimension is missing", (channels, height, width)),
        ("another number of channels: other classes, or heads concatenated?", (batch, None, height, width)),
        ("another number of slots: every slot must come back, padded ones too", (None, channels, height, width)),
        ("another grid: other input size or stride?", (batch, channels, None, None)),
    ]
    for reading, shape in readings:
        if _fits(got, shape):
            return reading
    sizes = [math.prod(side or 0 for side in shape) for shape in (got, expected)]
    return "as many values in another shape" if sizes[0] == sizes[1] > 0 else None


def _input_hint(got: Shape, expected: Shape) -> str | None:
    for layout, channel_axis in (("NCHW", 1), ("NHWC", -1)):
        if len(got) == 4 and got[channel_axis] == 3 and expected[channel_axis] != 3:
            return f"looks like {layout}"
    return None


def _mismatch(
    file: Path | None, field: str, what: str, found: str, expected: str, hint: str | None = None
) -> HarnessError:
    return HarnessError(
        f"the model has {what} {found}, the card says {expected}" + (f": {hint}" if hint else ""),
        file=file,
        field=field,
        remedy="correct this field of the model card, or give the model that the card describes",
    )


def _labels(card: ModelCard) -> tuple[str, ...]:
    return ("+".join(card.output.heads),) if card.output.concatenated else card.output.heads


def _fits(got: Shape, expected: Shape) -> bool:
    return len(got) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(got, expected, strict=True)
    )


def _takes(shape: Shape, given: Shape) -> bool:
    return len(shape) == len(given) and all(a is None or a == b for a, b in zip(shape, given, strict=True))


def _shown(shape: Shape) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _names(specs: Sequence[TensorSpec]) -> str:
    return _listed(spec.name for spec in specs)
