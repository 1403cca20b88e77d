"""Heads for tests."""

from typing import Any

from numpy.typing import NDArray

from harness.types import Heads


def make_heads(hm: NDArray[Any], wh: NDArray[Any], reg: NDArray[Any] | None = None) -> Heads:
    """Collect heads by name; without reg where there is none."""
    heads = {"hm": hm, "wh": wh}
    return heads if reg is None else {**heads, "reg": reg}
