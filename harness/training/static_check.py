"""Finds shapes that hang on the data, and tensors on another device, without any device: on tensors without values."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

ModelT = TypeVar("ModelT", bound=nn.Module)
InputsT = TypeVar("InputsT")


class Finding(NamedTuple):
    """What keeps a computation from having static shapes.

    Attributes:
        file: Of the line that is at fault.
        line: Its number.
        text: The line.
        why: The operator, or what PyTorch says.
    """

    file: Path
    line: int
    text: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}: {self.text}"


def find_dynamic(
    model: ModelT, step: Callable[[ModelT, InputsT], object], inputs: InputsT, device: str | torch.device = "cpu"
) -> Finding | None:
    """Run a step without values; return the first line whose shapes hang on them, or whose tensors are elsewhere.

    Args:
        model: Copied without its values.
        step: From the copy and the inputs to anything.
        inputs: Tensors, also in tuples and lists.
        device: That model and inputs are said to be on; it need not exist.
    """
    mode, there = FakeTensorMode(), torch.device(device)
    fake_model, fake_inputs = _fake(mode, model, there), _moved(mode, inputs, there)
    try:
        with mode:
            step(fake_model, fake_inputs)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        return _finding(error, f"the shape hangs on values ({error.func})")
    except (RuntimeError, AssertionError) as error:  # PyTorch has no class of its own for tensors of several devices
        said = str(error).splitlines()[0]
        if "device" not in said and "Fake" not in said:
            raise
        return _finding(error, said)
    return None


def _fake(mode: FakeTensorMode, model: ModelT, device: torch.device) -> ModelT:
    """Return a copy of a model whose parameters and buffers have no values."""
    memo: dict[int, object] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(_without_values(mode, parameter, device), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = _without_values(mode, buffer, device)
    return copy.deepcopy(model, memo)


def _without_values(mode: FakeTensorMode, tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the same shape that says it is on a device, whether that is there or not."""
    return FakeTensor(mode, tensor.detach().to("meta"), device)


def _moved(mode: FakeTensorMode, inputs: Any, device: torch.device) -> Any:  # noqa: ANN401 - tensors in tuples
    if isinstance(inputs, Tensor):
        return _without_values(mode, inputs, device)
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return type(inputs)(*(_moved(mode, one, device) for one in inputs))
    if isinstance(inputs, list | tuple):
        return type(inputs)(_moved(mode, one, device) for one in inputs)
    return inputs


def _finding(error: BaseException, why: str) -> Finding:
    """Name the innermost line that is not PyTorch's own."""
    libraries = Path(torch.__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not Path(one.filename).is_relative_to(libraries) and one.filename != __file__]
    place = (own or list(frames))[-1]
    return Finding(Path(place.filename), place.lineno or 0, place.line or "", why)
