"""Runner of Ascend's chips: the Python interface of ais_bench."""

from __future__ import annotations

import importlib
from typing import Any, Dict

import numpy as np


class Loaded:
    """A session on an om."""

    __slots__ = ("facts", "session")

    def __init__(self, session: Any) -> None:
        self.session = session
        (given,) = session.get_inputs()
        names = [output.name for output in session.get_outputs()]
        self.facts = {"input_bytes": int(given.size), "output_names": names}


def load(spec: Dict[str, Any]) -> Loaded:
    """Open a session.

    Args:
        spec: Path of the ``om`` and number of the ``device``.
    """
    interface = importlib.import_module("ais_bench.infer.interface")
    return Loaded(interface.InferSession(spec["device"], spec["om"]))


def run(handle: Loaded, images: Any) -> Dict[str, Any]:
    """Run one batch; the outputs come by their place among the om's."""
    # The session takes the address of an array, so it must lie in memory as it is indexed.
    contiguous = np.ascontiguousarray(images)
    if contiguous.nbytes != handle.facts["input_bytes"]:
        raise ValueError(f"a batch of {contiguous.nbytes} bytes")
    found = handle.session.infer([contiguous])
    return {str(place): np.array(output) for place, output in enumerate(found)}


def close(handle: Loaded) -> None:
    """Free the session: newer versions have a method for it."""
    free = getattr(handle.session, "free_resource", None)
    if free is not None:
        free()
    handle.session = None
