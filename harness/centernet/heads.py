"""Heads and the output tensors that carry them: named, joined, split and held to the model card."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.devices.artifact import Artifact, TensorSpec, require_batch_size
from harness.errors import HarnessError
from harness.report.escape import printable
from harness.types import Heads, Outputs

FLOATS = ("float16", "float32", "float64")

Shape = Sequence[int | None]


class Misfit(NamedTuple):
    """A tensor that is not what the model card promises; whose fault that is, is for the caller to say.

    Attributes:
        label: The head or heads it is about; None where it is about all of them together.
        quality: "type", "dtype", "shape" or "grids".
        expected: What the card promises.
        got: What came.
        hint: What it looks like.
    """

    label: str | None
    quality: str
    expected: str
    got: str
    hint: str | None = None


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
    return _specs(card, batch, card.output.names, channels)


def head_specs(card: ModelCard, batch: int | None) -> tuple[TensorSpec, ...]:
    """The heads that the card promises, each as a tensor of its own; their dtype stands for any floating one."""
    return _specs(card, batch, card.output.heads, list(card.head_channels.values()))


def _specs(card: ModelCard, batch: int | None, names: Sequence[str], channels: Sequence[int]) -> tuple[TensorSpec, ...]:
    height, width = (None, None) if card.input.keep_res else card.grid
    return tuple(
        TensorSpec(name, (batch, count, height, width), "float32") for name, count in zip(names, channels, strict=True)
    )


def join_heads(card: ModelCard, heads: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The output tensors that carry these heads, by the card's names; concatenated along the channels if it says so."""
    parts = [heads[head] for head in card.output.heads]
    if card.output.concatenated:
        parts = [np.concatenate(parts, axis=1)]
    return dict(zip(card.output.names, parts, strict=True))


def split_outputs(card: ModelCard, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The heads that output tensors carry, in the card's order, as views of them: the inverse of `join_heads`."""
    parts = [outputs[name] for name in card.output.names]
    if card.output.concatenated:
        parts = np.split(parts[0], np.cumsum(list(card.head_channels.values()))[:-1], axis=1)
    return dict(zip(card.output.heads, parts, strict=True))


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
    labels = ("+".join(card.output.heads),) if card.output.concatenated else card.output.heads
    _blame_device(find_misfit(output_specs(card, batch), outputs, labels))
    return split_outputs(card, outputs)


def require_heads(card: ModelCard, heads: Heads, batch: int) -> None:
    """Hold heads that a device gave, named as the card's, to the card.

    Raises:
        DeviceOutputError: A head has another dtype or shape than the card promises.
    """
    _blame_device(find_misfit(head_specs(card, batch), heads, card.output.heads))


def _blame_device(misfit: Misfit | None) -> None:
    if misfit is not None:
        raise DeviceOutputError(misfit.label, misfit.expected, misfit.got, misfit.hint)


def find_misfit(specs: Sequence[TensorSpec], tensors: Mapping[str, object], labels: Sequence[str]) -> Misfit | None:
    """The first of some tensors that is not as specified, or grids that are not one grid.

    Args:
        specs: What is promised; a side that is None is free, but the same for all tensors.
        tensors: At least those that are specified, by name.
        labels: The head or heads in each.
    """
    grids = {}
    for spec, label in zip(specs, labels, strict=True):
        tensor = tensors[spec.name]
        if not isinstance(tensor, np.ndarray):
            return Misfit(label, "type", "a NumPy array", type(tensor).__name__)
        if str(tensor.dtype) not in FLOATS:
            return Misfit(label, "dtype", f"one of the dtypes {_listed(FLOATS)}", str(tensor.dtype))
        if not _fits(tensor.shape, spec.shape):
            hint = _shape_hint(tensor.shape, spec.shape)
            return Misfit(label, "shape", f"shape {_shown(spec.shape)}", _shown(tensor.shape), hint)
        grids[label] = tensor.shape[2:]
    if len(set(grids.values())) > 1:
        shown = ", ".join(f"{label} {grid}" for label, grid in grids.items())
        return Misfit(None, "grids", "heads on one grid", shown)
    return None


def check_contract(card: ModelCard, artifact: Artifact, batch_size: int, file: Path | None = None) -> None:
    """Check the tensors that an artifact states against the model card, before anything runs.

    Args:
        card: The contract of the model.
        artifact: The result of `Device.convert`.
        batch_size: The batch size of the run.
        file: The file that the artifact was made from, for the message.

    Raises:
        HarnessError: Number, name, shape or dtype of an input or output differ, or the batch size does not fit. Where
            there are several such disagreements, the error lists all of them.
    """
    try:
        require_batch_size(artifact.batch_size, batch_size, file)
        wrong_batch = None
    except HarnessError as error:
        wrong_batch = error
    # Where the batch size is wrong already, that is said once, and not again of every shape.
    batch = batch_size if wrong_batch is None else artifact.batch_size
    found = [*_of_input(card, artifact, batch), *_of_outputs(card, artifact, batch)]
    if wrong_batch is not None and found:
        found = [Disagreement(str(wrong_batch.field), wrong_batch.cause), *found]
    elif wrong_batch is not None:
        raise wrong_batch
    if found:
        raise _disagreeing(found, file)


class Disagreement(NamedTuple):
    """Something that a model and its card say differently.

    Attributes:
        field: Of the card, or the option that asks for it.
        cause: In one sentence.
    """

    field: str
    cause: str


def _disagreeing(found: Sequence[Disagreement], file: Path | None) -> HarnessError:
    one = len(found) == 1
    fields = "this field" if one else "these fields"
    remedy = f"correct {fields} of the model card, or give the model that the card describes"
    if file is not None and file.suffix == ".onnx":
        remedy += f"; a draft of the card of this one: python -m harness card --onnx {shlex.quote(str(file))}"
        remedy += " --output card.toml"
    if one:
        return HarnessError(found[0].cause, file=file, field=found[0].field, remedy=remedy)
    listed = "".join(f"\n  {field}: {printable(cause)}" for field, cause in found)
    return HarnessError(f"the model and its card disagree in {len(found)} points:{listed}", file=file, remedy=remedy)


def _of_input(card: ModelCard, artifact: Artifact, batch: int | None) -> Iterator[Disagreement]:
    wanted = input_spec(card, batch)
    names = [spec.name for spec in artifact.inputs]
    if names != [wanted.name]:
        yield _disagreement("input.name", "inputs", _listed(names), wanted.name)
    # An input of another name may still be told of its shape, but of several there is none to hold to the card.
    if len(names) == 1:
        yield from _of_spec(artifact.inputs[0], wanted, (wanted.dtype,), "input")


def _of_outputs(card: ModelCard, artifact: Artifact, batch: int | None) -> Iterator[Disagreement]:
    outputs = {spec.name: spec for spec in artifact.outputs}
    if any(name not in outputs for name in card.output.names):
        yield _disagreement("output.names", "outputs", _listed(outputs), _listed(card.output.names))
    for wanted in output_specs(card, batch):
        if wanted.name in outputs:
            yield from _of_spec(outputs[wanted.name], wanted, FLOATS, "output")


def _of_spec(spec: TensorSpec, wanted: TensorSpec, dtypes: Sequence[str], field: str) -> Iterator[Disagreement]:
    tensor = f"{field} '{spec.name}'"
    if field == "input":
        # The model must leave a side open that the card leaves open.
        fits, hint = _takes(spec.shape, wanted.shape), _input_hint(spec.shape, wanted.shape)
    else:
        fits, hint = not spec.shape or _fits(spec.shape, wanted.shape), _shape_hint(spec.shape, wanted.shape)
    if not fits:
        yield _disagreement(field, f"{tensor} of shape", _shown(spec.shape), _shown(wanted.shape), hint)
    if spec.dtype not in dtypes:
        yield _disagreement(field, f"{tensor} of dtype", spec.dtype, " or ".join(dtypes))


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


def _disagreement(field: str, what: str, found: str, expected: str, hint: str | None = None) -> Disagreement:
    return Disagreement(
        field, f"the model has {what} {found}, the card says {expected}" + (f": {hint}" if hint else "")
    )


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
