"""Runner of PyTorch; its spec holds a live network, so it works in process only."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import torch


class Loaded:
    """A network, with the names of its outputs."""

    __slots__ = ("facts", "module", "outputs")

    def __init__(self, module: Any, outputs: Tuple[str, ...]) -> None:
        self.module, self.outputs = module, outputs
        self.facts: Dict[str, Any] = {}


def load(spec: Dict[str, Any]) -> Loaded:
    """Take a network.

    Args:
        spec: ``module``, which returns a tuple of tensors, and the names of its ``outputs``.
    """
    return Loaded(spec["module"], tuple(spec["outputs"]))


def run(handle: Loaded, images: Any) -> Dict[str, Any]:
    """Run one batch; PyTorch shares writable arrays, and gets a copy of others."""
    with torch.inference_mode():
        outputs = handle.module(torch.from_numpy(images if images.flags.writeable else images.copy()))
    return {name: output.numpy() for name, output in zip(handle.outputs, outputs)}


def close(handle: Loaded) -> None:
    """Drop the network."""
    handle.module = None
