"""Reading of official and own `.pth` checkpoints: safely, and strictly by name and shape."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.errors import HarnessError

NAMES_SHOWN = 8


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint: ``{"state_dict": ...}`` or the bare dict, prefix ``module.`` removed.

    Nothing in the file is executed (``weights_only=True``).

    Raises:
        HarnessError: The file is missing, truncated, no checkpoint, a Git LFS pointer or an HTML page.
    """
    _refuse_impostors(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise HarnessError(
            f"the file holds more than tensors, or is no checkpoint, and is not loaded ({_first_line(error)})",
            file=path,
            remedy="save only the state dict: torch.save({'state_dict': model.state_dict()}, FILE)",
        ) from error
    except Exception as error:  # what a damaged pickle raises (struct.error, IndexError, ...) is not documented
        raise HarnessError(
            f"the file is truncated or no PyTorch checkpoint ({_first_line(error)})",
            file=path,
            remedy="download it again, and compare its size with the source",
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()) or not state:
        raise HarnessError(
            "the checkpoint has no state dict: expected tensors by name, or such a dict under 'state_dict'",
            file=path,
            field="state_dict",
            remedy="save it as torch.save({'state_dict': model.state_dict()}, FILE)",
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into `model`; every name and shape must match.

    Raises:
        HarnessError: See `read_state_dict`; or names are missing or unexpected, or shapes differ; they are listed.
    """
    state = read_state_dict(path)
    own = model.state_dict()
    # Checkpoints older than PyTorch 0.4.1 lack the counter, which inference does not use.
    counters = {name for name in own.keys() - state.keys() if name.endswith("num_batches_tracked")}
    problems = _differences(own, state, counters)
    if problems:
        raise HarnessError(
            "the checkpoint is not of this network: " + "; ".join(problems),
            file=path,
            field="state_dict",
            remedy="check arch, width, head_conv and the number of classes on the model card",
        )
    model.load_state_dict({**{name: own[name] for name in counters}, **state})


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_impostors(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(512).lstrip().lower()
    except OSError as error:
        raise HarnessError(
            f"cannot read the weights: {error.strerror}", file=path, remedy="check the path given to --weights"
        ) from error
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


def _some(names: list[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
