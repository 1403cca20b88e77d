"""COCO's matching of detections with objects, done once, and the AP of any resampling of the images from it.

AP is no mean over images, so a bootstrap over them has to evaluate again. What takes the time is the matching, which
knows one image at a time and stays the same however often an image is drawn. pycocotools does it; what remains is to
count, and that is written here for many resamplings at once.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harness.checks.evaluate import coco_index, truth_records
from harness.data.dataset import Instances
from harness.data.detections import Results
from harness.types import Float64

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
"""Recall levels that precision is read at."""
MAX_DETECTIONS = 100
"""Per image and category, as COCO counts them."""
ALL_SIZES = (0.0, 1e10)
"""Square pixels; beyond, a detection that hits nothing is not counted as wrong."""
CELLS = 1_000_000
"""Detections times resamplings that are worked on at a time: what bounds the memory, at 30 MB."""

Indices = NDArray[np.intp]
Counts = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class CategoryMatches:
    """The detections of one category, best first.

    Attributes:
        objects: (images,) objects to find in each image.
        image: (D,) place of the image of each detection.
        hits: At each of the ten IoU thresholds, the places among the D of what is right.
        ignored: The same of what counts neither as right nor as wrong.
    """

    objects: Indices
    image: Indices
    hits: tuple[Indices, ...]
    ignored: tuple[Indices, ...]


@dataclass(frozen=True, slots=True)
class Matches:
    """The categories that have objects, and over how many images."""

    images: int
    categories: tuple[CategoryMatches, ...]

    def average_precision(self, weights: NDArray[np.integer]) -> Float64:
        """COCO's AP of resamplings of the images.

        Args:
            weights: (images, R) how often each image was drawn.

        Returns:
            (R,) as fractions; NaN where no object was drawn, so that there is none.
        """
        times: Counts = np.ascontiguousarray(weights, np.int32)
        total = np.zeros(times.shape[1])
        present = np.zeros(times.shape[1], np.int64)
        for category in self.categories:
            step = max(1, CELLS // max(1, len(category.image)))
            for start in range(0, times.shape[1], step):
                part = slice(start, start + step)
                drawn = times[:, part]
                objects = category.objects @ drawn
                total[part] += np.where(objects > 0, _category_ap(category, drawn, np.maximum(objects, 1)), 0.0)
                present[part] += objects > 0
        mean: Float64 = np.divide(total, present, out=np.full(len(total), np.nan), where=present > 0)
        return mean


def _category_ap(matches: CategoryMatches, weights: Counts, objects: Indices) -> Float64:
    """(R,) mean over the thresholds of the area below the precision that is the highest from each recall on."""
    seen = np.cumsum(weights[matches.image], axis=0, dtype=np.int32)
    areas = np.zeros(weights.shape[1])
    for hits, ignored in zip(matches.hits, matches.ignored, strict=True):
        if not len(hits):
            continue
        right = np.cumsum(weights[matches.image[hits]], axis=0, dtype=np.int32)
        counted = seen[hits]
        if len(ignored):
            left_out = np.cumsum(weights[matches.image[ignored]], axis=0, dtype=np.int32)
            before = np.searchsorted(ignored, hits)
            counted[before > 0] -= left_out[before[before > 0] - 1]
        # Where a hit was not drawn, nothing is added to either curve.
        precision = right / (counted + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        levels = _levels_reached(right, objects)
        areas += np.einsum("kr,kr->r", precision, np.diff(levels, axis=0, prepend=0))
    mean: Float64 = areas / (len(RECALLS) * len(THRESHOLDS))
    return mean


def _levels_reached(right: Counts, objects: Indices) -> Indices:
    """(K, R) how many of the recall levels lie at or below the recall after each hit."""
    recall = right / objects
    highest = np.floor(recall * 100 + 1e-7).astype(np.intp)
    # Decided by the same comparison of the same two binary fractions as pycocotools makes.
    reached: Indices = highest + (RECALLS[highest] <= recall)
    return reached


@dataclass(frozen=True, slots=True)
class _Table:
    """All detections that count, by category, best first; ties in the order in which pycocotools has them."""

    image: Indices
    category: Indices
    bbox: Float64
    score: Float64

    @classmethod
    def of(cls, results: Results, image_ids: Sequence[int], channels: Indices) -> _Table:
        found = [results[image_id] for image_id in image_ids]
        image = np.repeat(np.arange(len(found)), [len(one) for one in found])
        category = channels[np.concatenate([one.classes for one in found])]
        corners = np.concatenate([one.boxes for one in found]).astype(np.float64)
        bbox = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        score = np.concatenate([one.scores for one in found]).astype(np.float64)
        order = np.lexsort((-score, image, category))
        starts = np.flatnonzero(np.diff(image[order], prepend=-1) | np.diff(category[order], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        order = order[rank < MAX_DETECTIONS]
        order = order[np.lexsort((-score[order], category[order]))]
        return cls(image[order], category[order], bbox[order], score[order])


def match(instances: Instances, results: Results, category_ids: Sequence[int]) -> Matches:
    """Match the detections of all images with the objects, once.

    Args:
        instances: The truth.
        results: The detections of exactly these images, all finite; `evaluate` checks what it is given.
        category_ids: Category of each heatmap channel.
    """
    images = sorted(image.id for image in instances.images)
    categories = sorted(category.id for category in instances.categories)
    channels = np.searchsorted(categories, category_ids)
    table = _Table.of(results, images, channels)
    hit = np.zeros((len(THRESHOLDS), len(table.score)), bool)
    area = table.bbox[:, 2] * table.bbox[:, 3]
    ignored = np.tile((area < ALL_SIZES[0]) | (area > ALL_SIZES[1]), (len(THRESHOLDS), 1))
    # Of every annotation, the place in a flat (images, categories); an image and a category meet in one of these.
    truth = truth_records(instances)
    pairs = np.searchsorted(images, [record["image_id"] for record in truth]) * len(categories)
    pairs += np.searchsorted(categories, [record["category_id"] for record in truth])
    flat = np.zeros(len(images) * len(categories), np.intp)
    for one in _match_pairs(truth, pairs, table, table.image * len(categories) + table.category):
        flat[one["image_id"]] = np.count_nonzero(one["gtIgnore"] == 0)
        places = np.array(one["dtIds"], np.intp) - 1
        hit[:, places] = one["dtMatches"] > 0
        ignored[:, places] = one["dtIgnore"]
    objects = flat.reshape(len(images), len(categories))
    found = []
    for place in np.flatnonzero(objects.any(0)):
        own = slice(*np.searchsorted(table.category, (place, place + 1)))
        hits = tuple(np.flatnonzero(row) for row in (hit & ~ignored)[:, own])
        left_out = tuple(np.flatnonzero(row) for row in ignored[:, own])
        found.append(CategoryMatches(objects[:, place].copy(), table.image[own], hits, left_out))
    return Matches(len(images), tuple(found))


def _match_pairs(
    truth: list[dict[str, Any]], pairs: Indices, table: _Table, their_pairs: Indices
) -> list[dict[str, Any]]:
    """Let pycocotools match where there is something to match.

    Without objects every detection is wrong, and most pairs of an image and a category have none. So each pair that has
    some goes in as an image of its own, with one category.

    Args:
        truth: The annotations.
        pairs: The pair of each.
        table: The detections.
        their_pairs: The pair of each.

    Returns:
        What pycocotools says of each pair, by its "image_id"; the ids of detections are their places, from 1.
    """
    objects = [{**record, "image_id": int(pair), "category_id": 1} for record, pair in zip(truth, pairs, strict=True)]
    found = [
        {
            "id": int(place) + 1,  # pycocotools takes 0 for "not matched"
            "image_id": int(their_pairs[place]),
            "category_id": 1,
            "bbox": table.bbox[place].tolist(),
            "area": float(table.bbox[place, 2] * table.bbox[place, 3]),
            "score": float(table.score[place]),
            "iscrowd": 0,
        }
        for place in np.flatnonzero(np.isin(their_pairs, pairs))
    ]
    chosen = np.unique(pairs).tolist()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco_index(COCO, chosen, [1], objects), coco_index(COCO, chosen, [1], found), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(ALL_SIZES)], ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
    return list(evaluation.evalImgs)
