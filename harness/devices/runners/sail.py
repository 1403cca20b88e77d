"""Runner of Sophon's chips: sophon.sail."""

from __future__ import annotations

import importlib
from typing import Any, Dict

import numpy as np


class Loaded:
    """A bmodel in a chip, with its names of the input and of each output."""

    __slots__ = ("engine", "facts", "input", "network", "outputs")

    def __init__(self, engine: Any, input: str, outputs: Dict[str, str]) -> None:
        self.engine, self.input, self.outputs = engine, input, outputs
        (self.network,) = engine.get_graph_names()
        self.facts: Dict[str, Any] = {}


def chips() -> int:
    """Return the number of chips on this host."""
    return int(importlib.import_module("sophon.sail").get_available_tpu_num())


def load(spec: Dict[str, Any]) -> Loaded:
    """Load a bmodel into a chip, its tensors in the host's memory.

    Args:
        spec: Path of the ``bmodel``, number of the ``chip``, the bmodel's name of its ``input`` and, by the name of
            each output, the bmodel's name (``outputs``).
    """
    sail = importlib.import_module("sophon.sail")
    engine = sail.Engine(spec["bmodel"], spec["chip"], sail.IOMode.SYSIO)
    return Loaded(engine, spec["input"], dict(spec["outputs"]))


def run(handle: Loaded, images: Any) -> Dict[str, Any]:
    """Run one batch; an output that the engine does not return is left out."""
    # sail makes an array that is not contiguous so in place, in the caller's own memory.
    found = handle.engine.process(handle.network, {handle.input: np.ascontiguousarray(images)})
    # Copies: the buffers are the engine's own, and the next batch overwrites them.
    return {name: np.array(found[own]) for name, own in handle.outputs.items() if own in found}


def close(handle: Loaded) -> None:
    """Drop the engine, which frees the chip."""
    handle.engine = None
