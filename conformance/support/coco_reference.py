"""COCO's box evaluation written from its definition (https://cocodataset.org/#detection-eval), and data to try it on.

Plain NumPy, slow, and shares nothing with the evaluators that it is the reference for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checks.evaluate import Metrics
from harness.data.dataset import Annotation, Category, ImageEntry, Instances
from harness.data.detections import Results
from harness.types import Detections

CATEGORY_IDS = (1, 3, 90)
SIZES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
THRESHOLDS = np.linspace(0.5, 0.95, 10)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Float64 = NDArray[np.float64]


def instances_of(annotations: Sequence[Annotation], images: int = 1) -> Instances:
    """The truth of images 0, 1, ... with the categories of the model and one, 17, that it does not know."""
    entries = tuple(ImageEntry(image_id, f"{image_id}.jpg", 640, 480) for image_id in range(images))
    categories = tuple(Category(category_id, str(category_id)) for category_id in (*CATEGORY_IDS, 17))
    return Instances(entries, tuple(annotations), categories)


def results_of(rows_by_image: Mapping[int, Sequence[Sequence[float]]]) -> Results:
    """Results with rows x1, y1, x2, y2, score, all of class 0."""
    results = Results()
    for image_id, rows in rows_by_image.items():
        table = np.array(rows, np.float32).reshape(-1, 5)
        results.add(image_id, Detections(table[:, :4], table[:, 4], np.zeros(len(table), np.int64)))
    return results


def synthetic(seed: int, *, ties: bool = True) -> tuple[Instances, Results]:
    """A few images with objects of all sizes, crowds, empty images, and detections good, bad, doubled and inverted.

    Coordinates lie on a grid of a quarter of a pixel, so float32 and float64 hold them exactly.
    """
    rng = np.random.default_rng(seed)
    annotations: list[Annotation] = []
    results = Results()
    images = int(rng.integers(1, 6))
    for image_id in range(images):
        objects = int(rng.integers(image_id == 0, 7))
        corners = np.round(rng.uniform(0, 300, (objects, 2)) * 4) / 4
        sides = np.round(np.exp(rng.uniform(np.log(4), np.log(300), (objects, 2))) * 4) / 4
        classes = rng.integers(0, len(CATEGORY_IDS), objects)
        for (x, y), (w, h), index in zip(corners.tolist(), sides.tolist(), classes.tolist(), strict=True):
            area = float(rng.uniform(0.4, 1.0)) * w * h
            crowd = bool(annotations) and rng.random() < 0.15
            place = (len(annotations), image_id, CATEGORY_IDS[index], (x, y, w, h))
            annotations.append(Annotation(*place, area, int(crowd)))
        results.add(image_id, _detections(rng, corners, sides, classes, ties=ties))
    return instances_of(annotations, images), results


def _detections(rng: np.random.Generator, corners: Float64, sides: Float64, classes: Ints, *, ties: bool) -> Detections:
    if rng.random() < 0.2:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    near = np.tile(np.hstack([corners, corners + sides]), (2, 1))
    near += np.round(rng.normal(0, 0.06, near.shape) * np.tile(sides, (2, 2)) * 4) / 4
    far = np.round(rng.uniform(0, 300, (5, 4)) * 4) / 4  # most have a negative width or height
    boxes = np.vstack([near, far]).astype(np.float32)
    labels = np.concatenate([np.tile(classes, 2), rng.integers(0, len(CATEGORY_IDS), len(far))])
    scores = np.round(rng.random(len(boxes)), 1) if ties else rng.random(len(boxes))
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order].astype(np.float32), labels[order].astype(np.int64))


def overlap(boxes: Float64, others: Float64, crowd: Bools) -> Float64:
    """IoU of boxes x, y, w, h, (D, 4) and (G, 4) -> (D, G); with a crowd, the share of the box that lies in it."""
    upper = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    sides = upper - np.maximum(boxes[:, None, :2], others[None, :, :2])
    both = np.where((sides > 0).all(-1), sides.prod(-1), 0.0)
    area = boxes[:, 2:].prod(-1)[:, None]
    whole = np.where(crowd, area, area + others[:, 2:].prod(-1) - both)
    share: Float64 = np.divide(both, whole, out=np.zeros_like(both), where=both > 0)
    return share


def match(overlaps: Float64, ignored: Bools, crowd: Bools, threshold: float) -> Ints:
    """Object of each detection, best first, or -1: the free one of highest IoU, an ignored one only failing others."""
    taken = np.zeros(len(ignored), bool)
    matched = np.full(len(overlaps), -1)
    for index, row in enumerate(overlaps):
        for pool in (~ignored, ignored):
            allowed = np.flatnonzero(pool & (~taken | crowd) & (row >= threshold))
            if len(allowed):
                best = allowed[row[allowed] == row[allowed].max()][-1]
                matched[index], taken[best] = best, True
                break
    return matched


def judge(
    here: list[Annotation], boxes: list[dict[str, Any]], size: tuple[float, float], threshold: float
) -> tuple[int, list[bool | None]]:
    """Number of objects to find among `here`, and whether each box, best first, is right; None where it is ignored."""
    crowd = np.array([a.iscrowd for a in here], bool)
    ignored = crowd | np.array([not size[0] <= a.area <= size[1] for a in here], bool)
    found = np.array([box["bbox"] for box in boxes], np.float64).reshape(-1, 4)
    truth = np.array([a.bbox for a in here], np.float64).reshape(-1, 4)
    verdicts: list[bool | None] = []
    matched = match(overlap(found, truth, crowd), ignored, crowd, threshold)
    for index, area in zip(matched, found[:, 2:].prod(-1), strict=True):
        beyond = ignored[index] if index >= 0 else not size[0] <= area <= size[1]
        verdicts.append(None if beyond else bool(index >= 0))
    return int((~ignored).sum()), verdicts


def curve(
    instances: Instances, records: list[dict[str, Any]], category: int, size: tuple[float, float], limit: int, at: float
) -> tuple[float, float] | None:
    """(AP, highest recall) of one category, size, number of detections and IoU threshold; None without objects."""
    objects, scored = 0, []
    for image in instances.images:
        here = [a for a in instances.annotations if (a.image_id, a.category_id) == (image.id, category)]
        boxes = [r for r in records if (r["image_id"], r["category_id"]) == (image.id, category)]
        boxes = sorted(boxes, key=lambda record: -record["score"])[:limit]
        count, verdicts = judge(here, boxes, size, at)
        objects += count
        scored += [(box["score"], right) for box, right in zip(boxes, verdicts, strict=True) if right is not None]
    if not objects:
        return None
    hits = np.array([right for _, right in sorted(scored, key=lambda pair: -pair[0])], bool)
    recall = np.cumsum(hits) / objects
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best_from = [precision[recall >= wanted].max(initial=0.0) for wanted in np.linspace(0, 1, 101)]
    return float(np.mean(best_from)), float(recall.max(initial=0.0))


def reference(instances: Instances, records: list[dict[str, Any]]) -> list[float | None]:
    """The twelve numbers in the order of `Metrics`."""

    def mean(which: int, size: int = 0, limit: int = 100, thresholds: Float64 = THRESHOLDS) -> float | None:
        categories = [category.id for category in instances.categories]
        values = [curve(instances, records, c, SIZES[size], limit, t) for c in categories for t in thresholds]
        existing = [value[which] for value in values if value is not None]
        return float(np.mean(existing)) if existing else None

    precision = [mean(0), mean(0, thresholds=THRESHOLDS[:1]), mean(0, thresholds=THRESHOLDS[5:6])]
    recall = [mean(1, limit=limit) for limit in (1, 10, 100)]
    return [*precision, *(mean(0, size) for size in (1, 2, 3)), *recall, *(mean(1, size) for size in (1, 2, 3))]


def numbers(metrics: Metrics) -> list[float | None]:
    """The twelve numbers of `metrics`, without what they were measured on."""
    return list(astuple(metrics))[:12]
