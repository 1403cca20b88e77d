"""Reading of official and own `.pth` checkpoints: safely, and strictly by name and shape."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.files import open_regular
from harness.files.reading import LARGEST_FILE

NAMES_SHOWN = 8
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
COUNTER = "num_batches_tracked"
"""End of the names of tensors that are whole numbers, which inference does not use."""
FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
"""PyTorch's name, in its message, of a Python object that is no tensor."""


def read_state_dict(path: Path, key: str = "state_dict") -> dict[str, Tensor]:
    """Read the state dict of a checkpoint: under a key or the bare dict, prefix ``module.`` removed.

    Nothing in the file is executed (``weights_only=True``).

    Args:
        path: The file.
        key: Under which the tensors are, where they are not at the top.

    Raises:
        HarnessError: The file is missing, truncated, no regular file, no checkpoint, a Git LFS pointer or an HTML page.
    """
    _refuse_impostors(path)
    loaded = load_tensors(path)
    state = loaded.get(key, loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()) or not state:
        raise HarnessError(
            f"the checkpoint has no state dict: no tensors by name, neither at its top nor under '{key}'",
            file=path,
            field=key,
            remedy=f"save it as torch.save({{'{key}': model.state_dict()}}, FILE)",
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_tensors(path: Path) -> Any:  # noqa: ANN401 - a checkpoint may hold any plain data
    """Load what ``torch.save`` wrote, of plain data and tensors alone.

    PyTorch's own message is not repeated: it advises to load the file without this protection.

    Raises:
        HarnessError: The file holds other objects, or is truncated or no checkpoint.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old or sparse forms, which are refused where they do not serve
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = FOREIGN.search(str(error))
        held = f" ({found[1]})" if found else ""
        raise HarnessError(
            f"the file holds more than tensors{held}, or is no checkpoint, and is not loaded",
            file=path,
            remedy="save only the state dict: torch.save({'state_dict': model.state_dict()}, FILE)",
        ) from error
    except (Exception, RecursionError) as error:  # what a damaged pickle raises is not documented
        said = "" if "torch." in str(error) else f" ({_first_line(error)})"
        raise HarnessError(
            f"the file is truncated or no PyTorch checkpoint{said}",
            file=path,
            remedy="download it again, and compare its size with the source",
        ) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into `model`; every name and shape must match.

    Raises:
        HarnessError: See `read_state_dict` and `fill`.
    """
    remedy = "check arch, width, head_conv and the number of classes on the model card"
    fill(model, read_state_dict(path), path, remedy)


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path, remedy: str) -> None:
    """Fill `model` with tensors by name.

    Args:
        model: Takes them.
        state: Of every name of the model, and no other.
        path: The file that they are of, for messages.
        remedy: Advice where they are of another network.

    Raises:
        HarnessError: Names are missing or unexpected, shapes differ, or values are no weights; they are listed.
    """
    own = model.state_dict()
    # Checkpoints older than PyTorch 0.4.1 lack the counter, which inference does not use.
    counters = {name for name in own.keys() - state.keys() if name.endswith(COUNTER)}
    problems = _differences(own, state, counters)
    if problems:
        raise HarnessError(
            "the checkpoint is not of this network: " + "; ".join(problems),
            file=path,
            field="state_dict",
            remedy=remedy,
        )
    unfit = [f"{name} {why}" for name, tensor in state.items() if (why := _unfit(name, tensor))]
    if unfit:
        raise HarnessError(
            f"{len(unfit)} tensors are no weights: {_some(unfit)}",
            file=path,
            field="state_dict",
            remedy="save the network in floating point, after a training whose loss was finite",
        )
    model.load_state_dict({**{name: own[name] for name in counters}, **state})


def _refuse_impostors(path: Path) -> None:
    said, remedy = "cannot read the weights", "check the path given to --weights"
    with open_regular(path, None, LARGEST_FILE, cause=said, remedy=remedy) as file:
        start = file.read(512).lstrip().lower()
    if start.startswith(b"version https://git-lfs.github.com/spec"):
        raise HarnessError(
            "this is a Git LFS pointer, not the weights themselves",
            file=path,
            remedy="run 'git lfs pull' where it is from",
        )
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise HarnessError(
            "this is an HTML page, not a checkpoint: the download was answered by a web page",
            file=path,
            remedy="open the address in a browser and confirm the download there",
        )
    if not start:
        raise HarnessError("the file is empty", file=path, remedy="download it again")


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor], ignored: set[str]) -> list[str]:
    missing = sorted(own.keys() - state.keys() - ignored)
    unexpected = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return [f"{len(names)} {what}: {_some(names)}" for what, names in found if names]


def _unfit(name: str, tensor: Tensor) -> str | None:
    """Say why a tensor of the right name and shape is no weight; None where it is one."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "meta" if tensor.is_meta else "quantised" if tensor.is_quantized else str(tensor.layout)
        return f"is {kind.removeprefix('torch.')}"
    if name.endswith(COUNTER):
        return "is negative" if tensor.is_complex() or bool((tensor < 0).any()) else None
    if tensor.dtype not in FLOATS:
        return f"is {str(tensor.dtype).removeprefix('torch.')}"
    wrong = int((~torch.isfinite(tensor.float())).sum())  # as the network holds it
    return f"has {wrong} values that are NaN or infinite" if wrong else None


def _some(names: list[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
