"""Checkpoints of a training: written whole, read with nothing executed, and refused where they are of another run."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.files import whole_file
from harness.training.devices import device_random_state, set_device_random_state
from harness.training.weights import load_tensors

ANEW = "give another --output to start anew"


def save(path: Path, content: Mapping[str, object]) -> None:
    """Write a checkpoint: a reader, and a run that is killed here, sees the old or the new one.

    Raises:
        HarnessError: It cannot be written, as on a full disk; the old one stays.
    """
    with whole_file(path) as partial:
        partial.write_bytes(_bytes(content))


def _bytes(content: Mapping[str, object]) -> memoryview:
    """Return what ``torch.save`` writes; where it writes to a full disk itself, it does not say what went wrong."""
    saved = io.BytesIO()
    torch.save(dict(content), saved)
    return saved.getbuffer()


def read_of(path: Path, settings: Mapping[str, object]) -> dict[str, Any]:
    """Read a checkpoint that a run of these settings goes on from.

    Args:
        path: The checkpoint.
        settings: By name; those under ``settings`` in the checkpoint must be equal.

    Raises:
        HarnessError: It is damaged, holds more than tensors and plain data, or is of other settings.
    """
    saved = load_tensors(path)
    found = saved.get("settings") if isinstance(saved, dict) else None
    found = found if isinstance(found, dict) else {}
    differing = [name for name, value in settings.items() if found.get(name) != value]
    if differing:
        raise HarnessError(
            f"the checkpoint is of a run with other {', '.join(differing)}",
            file=path,
            remedy="give the same settings to go on with it, or another --output to start anew",
        )
    return dict(saved)


def not_to_go_on_from(path: Path, error: Exception) -> HarnessError:
    """Make the error of a checkpoint that lacks a part, or has one that does not fit."""
    said = (str(error) or type(error).__name__).splitlines()[0][:200]
    return HarnessError(f"no checkpoint to go on from: {said}", file=path, remedy=ANEW)


def random_states(device: torch.device) -> dict[str, object]:
    """Return the states of all random generators of this process, as tensors and plain data."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - its state is part of the process
    return {
        "torch": torch.get_rng_state(),
        "device": device_random_state(device),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Set the random generators of this process to states that `random_states` gave."""
    torch.set_rng_state(states["torch"])
    set_device_random_state(device, states["device"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, values, following = states["python"]
    random.setstate((version, tuple(values), following))


def save_weights(state: Mapping[str, Tensor], path: Path, *, half: bool = False, key: str = "state_dict") -> None:
    """Write a state dict as a checkpoint without optimizer.

    Args:
        state: Tensors by name.
        path: File to write.
        half: Write convolution weights in float16, half the size. Batch norms keep float32: variances may be tiny.
        key: Under which the tensors are, as the official code of the family has them.
    """
    kept = {
        name: tensor.half() if half and tensor.is_floating_point() and tensor.dim() > 1 else tensor
        for name, tensor in state.items()
    }
    save(path, {"epoch": 0, key: kept})
