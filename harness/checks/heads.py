"""Heads of a device against the reference's, one by one, sample by sample.

A head may differ from the reference's by

    allowed = factor x unit round-off x sqrt(accumulation length) x scale

with factor and round-off from ``harness/cards/tolerances.toml``. The scale is the largest magnitude of the head in a
float64 run of the same network, or, where the network amplifies rounding beyond that, the magnitude that explains
float32's own error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from harness.cards.tolerances import Tolerance
from harness.checks.comparison import Comparison, compare_values, labelled
from harness.types import Heads


def head_scales(heads32: Heads, second: Heads, tolerance: Tolerance, length: int) -> dict[str, float]:
    """Scale of each head.

    Args:
        heads32: The reference in float32.
        second: The same network and input in float64; of an ONNX without weights, in another order of operations.
        tolerance: That of float32.
        length: Accumulation length.
    """
    assert tolerance.unit_roundoff is not None
    scales = {}
    for name, head in heads32.items():
        own_error = float(np.abs(head - second[name]).max())
        scales[name] = max(float(np.abs(second[name]).max()), own_error / (tolerance.unit_roundoff * math.sqrt(length)))
    return scales


def compare_heads(device: Heads, reference: Heads, allowed: Mapping[str, float], label: str) -> list[Comparison]:
    """Every head of every sample, each on its own; NaN and infinity fail, and so does a comparison of nothing.

    Args:
        device: What the device gave.
        reference: The golden heads of the same samples.
        allowed: Largest absolute difference by head.
        label: Said with every comparison, such as the batch size.
    """
    if device.keys() != reference.keys():
        missing = ", ".join(sorted(reference.keys() ^ device.keys()))
        return [Comparison(f"{label}, heads", math.inf, 0, 0, f"only one side has: {missing}")]
    found = []
    for name, expected in reference.items():
        got = device[name]
        if got.shape != expected.shape or not expected.size:
            problem = f"expected shape {expected.shape}, got {got.shape}" if expected.size else "nothing to compare"
            found.append(Comparison(f"{label}, head {name}", math.inf, allowed[name], 0, problem))
            continue
        for sample in range(len(expected)):
            what = labelled(label, f"head {name}", sample, len(expected))
            found.append(compare_values(what, got[sample], expected[sample], allowed[name]))
    return found
