"""AP by a port's own evaluation: its specification, its computation and the known mistakes in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from harness.checks.evaluate import evaluate_records
from harness.data.dataset import Instances
from harness.faults.fault import Fault, FaultStage


@dataclass(frozen=True, slots=True)
class EvaluateSpec:
    """Specification of the counting of a port's own evaluation.

    Attributes:
        crowd: Crowds are ordinary objects.
        box_area: Small, medium and large are by the area of the box, not of the outline.
        found_only: Images without detections are left out.
        max_detections: Best of each image that count, instead of 100.
        loose: The AP at IoU 0.5 is given as AP.
        absent: Categories without objects count, with AP 0.
    """

    stage: ClassVar[FaultStage] = "evaluate"

    crowd: bool = False
    box_area: bool = False
    found_only: bool = False
    max_detections: int = 100
    loose: bool = False
    absent: bool = False


def evaluate_as(spec: EvaluateSpec, instances: Instances, records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Compute AP, AP50, AP75, APs, APm, APl and the number of images of a results file."""
    seen, found = instances, list(records)
    if spec.found_only:
        ids = {record["image_id"] for record in found}
        seen = replace(
            seen,
            images=tuple(image for image in seen.images if image.id in ids),
            annotations=tuple(a for a in seen.annotations if a.image_id in ids),
        )
    if spec.crowd:
        seen = replace(seen, annotations=tuple(replace(a, iscrowd=0) for a in seen.annotations))
    if spec.box_area:
        seen = replace(seen, annotations=tuple(replace(a, area=a.bbox[2] * a.bbox[3]) for a in seen.annotations))
    if spec.max_detections < 100:
        found = _best(found, spec.max_detections)
    metrics = evaluate_records(seen, found)
    share = 1.0
    if spec.absent:
        present = {a.category_id for a in seen.annotations if not a.iscrowd}
        share = len(present) / len(seen.categories)
    named = {name: getattr(metrics, name) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    claimed = {name: share * value for name, value in named.items() if value is not None}
    if spec.loose:
        claimed["AP"] = claimed["AP50"]
    return {**claimed, "images": metrics.images}


def _best(records: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Keep the best of each image, whatever their category."""
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        by_image.setdefault(record["image_id"], []).append(record)
    return [r for rows in by_image.values() for r in sorted(rows, key=lambda row: -row["score"])[:count]]


EVALUATE_FAULTS: tuple[Fault[EvaluateSpec], ...] = (
    Fault(
        id="crowd-ignored",
        spec=EvaluateSpec,
        description="crowds count as ordinary objects",
        seen_in="rewritten AP code",
        change=lambda spec, p: replace(spec, crowd=True),
    ),
    Fault(
        id="area-of-the-box",
        spec=EvaluateSpec,
        description="small, medium and large go by the box instead of the outline's area",
        seen_in="evaluators that know boxes only",
        change=lambda spec, p: replace(spec, box_area=True),
    ),
    Fault(
        id="images-without-results-left-out",
        spec=EvaluateSpec,
        description="images in which nothing was found are left out of the AP",
        seen_in="params.imgIds set to the ids of the results file",
        change=lambda spec, p: replace(spec, found_only=True),
    ),
    Fault(
        id="max-detections",
        spec=EvaluateSpec,
        description="fewer detections of an image count than COCO's 100",
        seen_in="params.maxDets of another benchmark",
        change=lambda spec, p: replace(spec, max_detections=int(p[0])),
        parameters=("detections of an image",),
        draw=lambda r: (float(r.choice([1, 5, 10])),),
        guesses=((10.0,), (1.0,), (5.0,), (20.0,), (50.0,)),
    ),
    Fault(
        id="ap50-for-ap",
        spec=EvaluateSpec,
        description="AP at IoU 0.5 is given as AP",
        seen_in="Pascal VOC's mAP",
        change=lambda spec, p: replace(spec, loose=True),
    ),
    Fault(
        id="absent-categories",
        spec=EvaluateSpec,
        description="categories without objects count with AP 0",
        seen_in="means over all classes on a part of the images",
        change=lambda spec, p: replace(spec, absent=True),
    ),
)
