"""Evaluating detections as COCO does: pycocotools gives the figure that counts."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import faster_coco_eval
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harness.data.dataset import Instances, first_few
from harness.data.detections import Results, to_coco_json
from harness.errors import HarnessError
from harness.types import Float64

Evaluator = Literal["pycocotools", "faster-coco-eval"]
"""pycocotools defines COCO's AP. faster-coco-eval agrees with it to 1e-9 in a fifth of the time (a test holds it)."""

_EVALUATORS: dict[Evaluator, tuple[type[Any], type[Any]]] = {
    "pycocotools": (COCO, COCOeval),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
}

CATEGORIES_AT_ONCE = 4
"""Evaluators keep many times the size of a detection: few categories at once need less memory, and no more time."""

_NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order in which the evaluators summarise."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Parts that an AP is the mean of, over the categories that have objects; all as fractions.

    Attributes:
        by_category: AP of each category, by its id.
        at_50: Precision at the recalls 0, 0.01 ... 1, mean over the categories, at IoU 0.50; its mean is AP50.
        mean: The same, mean over the ten IoU thresholds as well; its mean is AP.
    """

    by_category: dict[int, float]
    at_50: tuple[float, ...]
    mean: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The twelve numbers of COCO's box evaluation, as fractions, with what they were measured on.

    Attributes:
        AP: Mean over the IoU thresholds 0.50, 0.55 ... 0.95 and over the categories that have objects.
        AP50: At IoU 0.50.
        AP75: At IoU 0.75.
        APs: AP of objects below 32 x 32 pixels; None where there are none, as for the other sizes.
        APm: AP of objects from 32 x 32 to 96 x 96 pixels.
        APl: AP of objects above 96 x 96 pixels.
        AR1: Recall, mean over the same thresholds and categories, with the best detection per image and category.
        AR10: Recall with the ten best.
        AR100: Recall with the hundred best.
        ARs: AR100 of the small objects.
        ARm: AR100 of the medium objects.
        ARl: AR100 of the large objects.
        images: Number of images evaluated, also those without objects or detections.
        rounded: Whether boxes and scores were rounded to two decimals first.
        curves: What AP and AP50 are made of.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float | None
    APm: float | None
    APl: float | None
    AR1: float
    AR10: float
    AR100: float
    ARs: float | None
    ARm: float | None
    ARl: float | None
    images: int
    rounded: bool
    curves: Curves


def evaluate(
    instances: Instances,
    results: Results,
    category_ids: Sequence[int],
    *,
    rounding: bool = False,
    evaluator: Evaluator = "pycocotools",
) -> Metrics:
    """Evaluate the detections of all images of `instances`, at most 100 per image and category.

    Args:
        instances: The truth, `Dataset.instances`; its order settles equal IoUs, as in pycocotools.
        results: The detections of exactly these images.
        category_ids: Category of each heatmap channel; a category of the data set that is not among them counts as
            missed, as in pycocotools.
        rounding: Round as the official tools do, see `to_coco_json`.
        evaluator: Which implementation.

    Raises:
        HarnessError: Images of the data set have no results or results have images beyond it, the categories are not
            the data set's, or no object is annotated, so that there is no AP.
    """
    missing = sorted({image.id for image in instances.images} - set(results))
    if missing:
        raise HarnessError(
            f"{len(missing)} of the {len(instances.images)} images have no results: {first_few(missing)}",
            remedy="run every image that is evaluated, also where nothing is found",
        )
    _check_known("images", set(results), {image.id for image in instances.images})
    _check_known("categories", set(category_ids), {category.id for category in instances.categories})
    metrics = _evaluate(
        instances, lambda some: to_coco_json(results, category_ids, rounding=rounding, of=some), evaluator
    )
    return replace(metrics, rounded=rounding)


def evaluate_records(
    instances: Instances, records: Sequence[Mapping[str, Any]], *, evaluator: Evaluator = "pycocotools"
) -> Metrics:
    """Evaluate detections in COCO's results format as they are, in float64, over all images of `instances`.

    The format cannot say that an image was run and nothing was found, so whether every image was run stays unknown.

    Raises:
        HarnessError: An image or category is not the data set's, or no object is annotated, so that there is no AP.
    """
    _check_known("images", {record["image_id"] for record in records}, {image.id for image in instances.images})
    categories = {category.id for category in instances.categories}
    _check_known("categories", {record["category_id"] for record in records}, categories)
    return _evaluate(instances, lambda some: [one for one in records if one["category_id"] in some], evaluator)


def _evaluate(
    instances: Instances, records_of: Callable[[frozenset[int]], Sequence[Mapping[str, Any]]], evaluator: Evaluator
) -> Metrics:
    """Evaluate some categories at a time, so that the evaluators' records of a few are in memory and not of all."""
    if all(annotation.iscrowd for annotation in instances.annotations):
        raise HarnessError(
            f"no object is annotated in the {len(instances.images)} images, so there is no AP",
            remedy="take images with annotated objects that are no crowds, or more images",
        )
    coco, coco_eval = _EVALUATORS[evaluator]
    images, truth = [image.id for image in instances.images], truth_records(instances)
    # A category without objects has no precision and no recall, and enters no mean.
    categories = sorted({annotation.category_id for annotation in instances.annotations})
    curves: list[dict[str, Any]] = []
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress and a table
        for start in range(0, len(categories), CATEGORIES_AT_ONCE):
            some = categories[start : start + CATEGORIES_AT_ONCE]
            wanted = frozenset(some)
            # The evaluators write marks into what they are given, so they get copies.
            found = [
                {**record, "id": number, "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0}
                for number, record in enumerate(records_of(wanted), start=1)
            ]
            objects = [record for record in truth if record["category_id"] in wanted]
            evaluation = coco_eval(
                coco_index(coco, images, some, objects), coco_index(coco, images, some, found), "bbox"
            )
            evaluation.evaluate()
            evaluation.accumulate()
            curves.append(evaluation.eval)
        for name, axis in (("precision", 2), ("recall", 1)):  # the axis of the categories
            evaluation.eval[name] = np.concatenate([part[name] for part in curves], axis=axis)
        evaluation.summarize()
    stats = [None if value < 0 else float(value) for value in evaluation.stats]
    numbers: dict[str, Any] = dict(zip(_NUMBERS, stats, strict=True))
    made_of = _curves(evaluation.eval["precision"], categories)
    return Metrics(**numbers, images=len(instances.images), rounded=False, curves=made_of)


def _curves(precision: Float64, categories: Sequence[int]) -> Curves:
    """Take apart what the evaluators summarise.

    Args:
        precision: (IoU thresholds, recalls, categories, sizes, limits of detections), -1 where a category has no
            objects but crowds.
        categories: Their ids.
    """
    of_all = precision[:, :, :, 0, -1]  # objects of all sizes, with the hundred best detections
    present = of_all[0, 0] >= 0
    by_category = of_all.mean(axis=(0, 1))
    chosen = of_all[:, :, present]
    return Curves(
        {id_: float(ap) for id_, ap, there in zip(categories, by_category, present, strict=True) if there},
        tuple(chosen[0].mean(axis=1).tolist()),
        tuple(chosen.mean(axis=(0, 2)).tolist()),
    )


def _check_known(kind: str, used: set[int], known: set[int]) -> None:
    unknown = sorted(used - known)
    if unknown:
        raise HarnessError(
            f"the results have {len(unknown)} {kind} that the data set has not: {first_few(unknown)}",
            remedy="evaluate on the data set that was run, with the model card that it was run with",
        )


def truth_records(instances: Instances) -> list[dict[str, Any]]:
    """The annotations as the evaluators take them, numbered from 1: they take id 0 for "not matched"."""
    return [
        {**asdict(annotation), "bbox": list(annotation.bbox), "id": number}
        for number, annotation in enumerate(instances.annotations, start=1)
    ]


def coco_index(coco: type[Any], images: Iterable[int], categories: Iterable[int], records: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - untyped library
    """An evaluator's own index of objects or detections, which it writes marks into.

    Args:
        coco: Its class.
        images: Their ids.
        categories: Their ids.
        records: Annotations, or detections that look like them.
    """
    index = coco()
    index.dataset = {
        "images": [{"id": id_} for id_ in images],
        "categories": [{"id": id_} for id_ in categories],
        "annotations": records,
    }
    index.createIndex()
    return index
