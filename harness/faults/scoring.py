"""AP as a port's own evaluation may count it: right, or with one of the known mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.checks.evaluate import evaluate_records
from harness.data.dataset import Instances
from harness.faults.forms import ScoreForm


def score_in(form: ScoreForm, instances: Instances, records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """AP, AP50, AP75, APs, APm, APl of a results file, and the number of images, as a port of this form counts them."""
    seen, found = instances, list(records)
    if form.found_only:
        ids = {record["image_id"] for record in found}
        seen = replace(
            seen,
            images=tuple(image for image in seen.images if image.id in ids),
            annotations=tuple(a for a in seen.annotations if a.image_id in ids),
        )
    if form.crowd:
        seen = replace(seen, annotations=tuple(replace(a, iscrowd=0) for a in seen.annotations))
    if form.box_area:
        seen = replace(seen, annotations=tuple(replace(a, area=a.bbox[2] * a.bbox[3]) for a in seen.annotations))
    if form.max_detections < 100:
        found = _best(found, form.max_detections)
    metrics = evaluate_records(seen, found)
    share = 1.0
    if form.absent:
        present = {a.category_id for a in seen.annotations if not a.iscrowd}
        share = len(present) / len(seen.categories)
    named = {name: getattr(metrics, name) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    claimed = {name: share * value for name, value in named.items() if value is not None}
    if form.loose:
        claimed["AP"] = claimed["AP50"]
    return {**claimed, "images": metrics.images}


def _best(records: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The best of each image, whatever their category."""
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        by_image.setdefault(record["image_id"], []).append(record)
    return [r for rows in by_image.values() for r in sorted(rows, key=lambda row: -row["score"])[:count]]
