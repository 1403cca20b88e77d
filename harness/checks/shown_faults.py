"""Faults that an AP can show: five mistakes made on the reference's own detections, and what each does to its AP.

An AP that stays as it is with exchanged coordinates says nothing about a port: that of a wrong card, of foreign
annotations, or of a network that finds nothing. Each fault is one that a port can make after a right network.

Boxes are multiplied by 1.02 as whole rows, as a port does that takes the image for 2 % larger than it is. Boxes that
are 2 % too large about their centres cannot show: an IoU of 1 / 1.02^2 = 0.96 reaches the highest threshold of COCO's
AP, 0.95, and that of the embedded models changes by -0.0017 and +0.0006 on 200 images. The least enlargement that does
show is measured and said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from harness.cards import AnyCard, TwoStageCard
from harness.centernet import preprocess
from harness.centernet2 import inference
from harness.centernet2.targets import STRIDES
from harness.checks.matching import match
from harness.data.dataset import Dataset
from harness.data.detections import Results
from harness.types import Detections, Float32

FACTOR = 1.02
ENLARGEMENTS = (2, 3, 5, 10, 20)
"""Percent by which boxes are too large about their centres, tried from the least on."""
SEED = 0
"""Of the permutation of the scores: the same detections get the same AP."""

Fault = Callable[[int, Detections], Detections]
"""From an image's id and its detections to those of a port with the fault."""


@dataclass(frozen=True, slots=True)
class ShownFaults:
    """Effect of faults on the AP of the reference.

    Attributes:
        ap: Of the reference as it is.
        faults: AP with each fault, by its name.
        enlarged: Gives the AP with boxes too large by some percent.
    """

    ap: float
    faults: Mapping[str, float]
    enlarged: Callable[[int], float]

    def unseen(self, allowed: float) -> list[str]:
        """Faults with which AP does not fall by more than is allowed, each with the AP that it gives.

        A fault that lifts AP is unseen, too: a port that makes it loses nothing.
        """
        return [
            f"{name} (AP {self.ap:.4f}, with it {ap:.4f})"
            for name, ap in self.faults.items()
            if not self.ap - ap > allowed
        ]

    def describe_unseen(self, allowed: float) -> str | None:
        """Say which faults cannot be shown; None where each can."""
        unseen = self.unseen(allowed)
        return f"AP cannot show a fault: {', '.join(unseen)}; allowed loss {allowed:.4f}" if unseen else None

    def least_enlargement(self, allowed: float) -> int | None:
        """Least of `ENLARGEMENTS` with which AP falls by more than is allowed, in percent; None where none does."""
        return next((percent for percent in ENLARGEMENTS if self.ap - self.enlarged(percent) > allowed), None)


def show_faults(card: AnyCard, dataset: Dataset, results: Results) -> ShownFaults:
    """Make each fault on the detections of the reference, and evaluate.

    Args:
        card: The contract of the model.
        dataset: The images with their truth.
        results: The detections of the reference.
    """

    def ap_with(fault: Fault) -> float:
        changed = Results()
        for image_id, found in results.items():
            changed.add(image_id, fault(image_id, found))
        once = np.ones((len(dataset), 1), np.int32)
        return float(match(dataset.instances, changed, card.category_ids).average_precision(once)[0])

    count = len(card.category_ids)
    # A model of one class has no other to take it for.
    faults: dict[str, Fault] = (
        {}
        if count == 1
        else {
            "classes + 1": lambda _, found: replace(found, classes=(found.classes + 1) % count),
        }
    )
    faults |= {
        f"boxes x {FACTOR}": lambda _, found: replace(found, boxes=found.boxes * np.float32(FACTOR)),
        "x and y exchanged": lambda _, found: replace(found, boxes=found.boxes[:, [1, 0, 3, 2]]),
        "a shift of one cell": lambda image_id, found: replace(
            found, boxes=found.boxes + _cell(card, dataset.size(image_id))
        ),
        "scores permuted": _permutation(results),
    }
    return ShownFaults(
        ap_with(lambda _, found: found),
        {name: ap_with(fault) for name, fault in faults.items()},
        cache(lambda percent: ap_with(lambda _, found: replace(found, boxes=_larger(found.boxes, 1 + percent / 100)))),
    )


def _cell(card: AnyCard, size: tuple[int, int]) -> Float32:
    """(4,) pixels of an image that a cell of the output grid covers in x and y, twice; of two stages, that of P3."""
    if isinstance(card, TwoStageCard):
        inverse, stride = inference.place(card, size).inverse, STRIDES[0]
    else:
        inverse, stride = preprocess.place(card, size).inverse, card.decode.stride
    side = stride * np.array([inverse[0, 0], inverse[1, 1]], np.float32)
    return np.concatenate([side, side]).astype(np.float32)


def _larger(boxes: Float32, factor: float) -> Float32:
    """Boxes with sides `factor` times as long about the same centres."""
    centres, halves = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * np.float32(factor)
    return np.hstack([centres - halves, centres + halves]).astype(np.float32)


def _permutation(results: Results) -> Fault:
    """Scores exchanged among all detections of all images."""
    every = np.concatenate([found.scores for found in results.values()])
    drawn = np.random.default_rng(SEED).permutation(every)
    ends = np.cumsum([len(found) for found in results.values()])[:-1]
    scores = dict(zip(results, np.split(drawn, ends), strict=True))
    return lambda image_id, found: Detections(found.boxes, scores[image_id], found.classes)
