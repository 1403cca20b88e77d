"""The accuracy that a port claims for its results file against the accuracy that the file has."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.checks.comparison import Comparison
from harness.checks.detections import Rows
from harness.checks.evaluate import evaluate_records
from harness.data.dataset import Instances

CLAIM_ALLOWED = 0.0005
"""Largest difference of an AP: the tools print three decimals."""


def judge_claim(instances: Instances, theirs: Rows, claim: Mapping[str, float]) -> list[Comparison]:
    """Compare claimed figures with those that pycocotools computes from the results file.

    Args:
        instances: The truth.
        theirs: Rows of the results file.
        claim: AP, AP50 and so on as fractions, and the number of images, as far as they are claimed.
    """
    metrics = evaluate_records(instances, theirs)
    found = []
    for name, value in claim.items():
        if name == "images":
            missing = abs(int(value) - metrics.images)
            problem = f"{int(value)} images are claimed, there are {metrics.images}" if missing else None
            found.append(Comparison("images", missing, 0, 1, problem))
            continue
        own = getattr(metrics, name)
        off = math.inf if own is None else abs(value - own)
        problem = None if off <= CLAIM_ALLOWED else f"{value:.4f} is claimed, the results file reads {own or 0.0:.4f}"
        found.append(Comparison(name, off, CLAIM_ALLOWED, 1, problem))
    return found
