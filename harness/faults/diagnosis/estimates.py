"""Estimates of a fault's parameters from the evidence, given the port without this fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.checks.detections import table_of_rows
from harness.faults.diagnosis.evidence import Evidence, HeadsEvidence, RowsEvidence
from harness.faults.diagnosis.predict import Chain
from harness.faults.fault import Params
from harness.faults.port_spec import PortSpec
from harness.faults.stages.numeric import INT8_LEVELS

Estimate = Callable[[Chain, Evidence, int, PortSpec], list[Params]]


def _wh_factor(chain: Chain, evidence: Evidence, index: int, base: PortSpec) -> list[Params]:
    if not isinstance(evidence, HeadsEvidence):
        return []
    got, right = evidence.heads[index]["wh"], chain.heads_of(base, index)["wh"]
    if got.shape != right.shape:
        return []
    large = np.abs(right) > 0.2 * np.abs(right).max()
    if not large.any():
        return []
    factor = float(np.median(got[large] / right[large]))
    return [(round(factor, 3),)] if 0.01 < abs(factor) < 100 else []


def _saturated(chain: Chain, evidence: Evidence, index: int, base: PortSpec) -> list[Params]:
    if not isinstance(evidence, HeadsEvidence):
        return []
    got, right = evidence.heads[index]["wh"], chain.heads_of(base, index)["wh"]
    share = float(np.abs(got).max() / np.abs(right).max())
    return [(share,)] if 0 < share < 1 else []


def _overflow(chain: Chain, evidence: Evidence, index: int, base: PortSpec) -> list[Params]:
    """Take the middle between the largest finite value and the smallest infinite one, over the heads that have both."""
    if not isinstance(evidence, HeadsEvidence):
        return []
    heads, right = evidence.heads[index], chain.heads_of(base, index)
    low, high = 0.0, np.inf
    for name, got in heads.items():
        infinite = np.isinf(got)
        if got.shape != right[name].shape or not infinite.any() or infinite.all():
            continue
        size = np.abs(right[name])
        low = max(low, float(size[~infinite].max() / size.max()))
        high = min(high, float(size[infinite].min() / size.max()))
    return [((low + high) / 2,)] if high < np.inf else []


def _outlier(chain: Chain, evidence: Evidence, index: int, base: PortSpec) -> list[Params]:
    """Divide the spacing of the quantised levels by the right one."""
    if not isinstance(evidence, HeadsEvidence):
        return []
    got, right = evidence.heads[index]["hm"], chain.heads_of(base, index)["hm"]
    levels = np.unique(np.abs(got[np.isfinite(got)].astype(np.float64)))
    steps = np.diff(levels)
    steps = steps[steps > 1e-3 * levels[-1]] if len(levels) > 1 else steps
    largest = float(np.abs(right).max())
    return [(float(np.median(steps) * INT8_LEVELS / largest),)] if len(steps) and 0 < largest < np.inf else []


def _top_k(chain: Chain, evidence: Evidence, index: int, base: PortSpec) -> list[Params]:
    del chain, index, base
    if not isinstance(evidence, RowsEvidence):
        return []
    return [(float(max(1, *(len(rows) for rows in evidence.rows), 1)),)]


def _threshold(chain: Chain, evidence: Evidence, index: int, base: PortSpec) -> list[Params]:
    """Take the middle between the lowest score in the results and the next that is missing."""
    if not isinstance(evidence, RowsEvidence):
        return []
    kept = [row["score"] for rows in evidence.rows for row in rows]
    if not kept:
        return []
    lowest = min(kept)
    right = [row["score"] for i in range(len(evidence)) for row in chain.rows_of(base, i) or []]
    below = [score for score in right if score < lowest - 1e-4]
    return [((lowest + max(below)) / 2,)] if below else []


def _shift(chain: Chain, evidence: Evidence, index: int, base: PortSpec) -> list[Params]:
    """Take the median offset of boxes of equal class, score and size."""
    if not isinstance(evidence, RowsEvidence):
        return []
    got, right = table_of_rows(evidence.rows[index]), table_of_rows(chain.rows_of(base, index) or [])
    moved = []
    for row in got:
        same = right[(right[:, 0] == row[0]) & (np.abs(right[:, 1] - row[1]) < 1e-3)]
        size_differs = (same[:, 4:] - same[:, 2:4]) - (row[4:] - row[2:4])
        same = same[np.abs(size_differs).max(axis=1, initial=0.0) < 0.1]
        if len(same) == 1:
            moved.append(row[2:4] - same[0, 2:4])
    if not moved:
        return []
    x, y = np.median(moved, axis=0).round(2).tolist()
    return [(x, y)] if x or y else []


ESTIMATES: dict[str, Estimate] = {
    "wh_factor": _wh_factor, "saturated": _saturated, "overflow": _overflow, "outlier": _outlier, "top_k": _top_k,
    "threshold": _threshold, "shift": _shift,
}  # fmt: skip
