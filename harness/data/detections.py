"""Collection of detections, and COCO's results format."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from harness.data.dataset import Id
from harness.errors import HarnessError, not_valid
from harness.files import read_regular, whole_file
from harness.types import Detections


class Results(Mapping[int, Detections]):
    """Detections in image pixels by image id; images are added, never changed. 28 bytes a detection."""

    def __init__(self) -> None:
        self._by_image: dict[int, Detections] = {}

    def add(self, image_id: int, detections: Detections) -> None:
        """Keep a copy of the detections of an image, even if there are none.

        Raises:
            HarnessError: The image has results already, or a box or score is NaN or infinite.
        """
        if image_id in self._by_image:
            raise HarnessError(f"image {image_id} has results already", remedy="run every image once")
        if not (np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all()):
            raise HarnessError(
                f"the detections of image {image_id} hold NaN or infinite values", remedy="compare the heads first"
            )
        self._by_image[int(image_id)] = Detections(
            boxes=np.array(detections.boxes, np.float32).reshape(-1, 4),
            scores=np.array(detections.scores, np.float32),
            classes=np.array(detections.classes, np.int64),
        )

    def __getitem__(self, image_id: int) -> Detections:
        return self._by_image[image_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_image)

    def __len__(self) -> int:
        return len(self._by_image)


def to_coco_json(
    results: Results, category_ids: Sequence[int], *, rounding: bool = False, of: Collection[int] | None = None
) -> list[dict[str, Any]]:
    """Convert detections to COCO's results format: image_id, category_id, bbox (x, y, width, height), score.

    Args:
        results: Detections in image pixels.
        category_ids: Category of each class.
        rounding: Write coordinates and scores with two decimals, and subtract width and height in float32 before, as
            CenterNet's tools do (src/lib/datasets/dataset/coco.py, convert_eval_format).
        of: Keep only these categories; None keeps all.

    Raises:
        HarnessError: A class is not among `category_ids`.
    """
    records = []
    wanted = np.isin(category_ids, list(category_ids if of is None else of))
    for image_id in sorted(results):
        detections = results[image_id]
        beyond = detections.classes[(detections.classes < 0) | (detections.classes >= len(category_ids))]
        if len(beyond):
            raise HarnessError(
                f"image {image_id} has detections of class {beyond[0]}, the model card has {len(category_ids)} classes",
                field="category_ids",
                remedy="give the card one category for each heatmap channel",
            )
        chosen = wanted[detections.classes]
        boxes = detections.boxes[chosen] if rounding else detections.boxes[chosen].astype(np.float64)
        scores = detections.scores[chosen]
        rows = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], scores]).astype(np.float64)
        if rounding:
            rows = rows.round(2)  # as "{:.2f}" does it: a float32 times 100 is exact in float64
        records += [
            {"image_id": image_id, "category_id": category_ids[index], "bbox": row[:4], "score": row[4]}
            for index, row in zip(detections.classes[chosen].tolist(), rows.tolist(), strict=True)
        ]
    return records


ROWS_BYTES = 2**31
"""Most that a file of rows may have."""
LARGEST_NUMBER = 1e12
"""Size of a coordinate or score beyond which a row is no detection: the square of it is still a number."""
Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class _Record:
    image_id: Id
    category_id: Id
    bbox: tuple[Number, Number, Number, Number]
    score: Number


_RECORDS = TypeAdapter(list[_Record])


def read_coco_json(file: Path) -> list[dict[str, Any]]:
    """Read a COCO results file for `evaluate_records`.

    Records of `to_coco_json` that `json.dump` wrote read back the same.

    Raises:
        HarnessError: The file is missing or no results file of boxes.
    """
    data = read_regular(file, None, ROWS_BYTES)
    try:
        _RECORDS.validate_json(data, strict=True)
    except ValidationError as error:
        remedy = "give a JSON list of image_id, category_id, bbox (x, y, width, height) and score"
        raise not_valid("a COCO results file", error, file=file, remedy=remedy) from error
    records: list[dict[str, Any]] = json.loads(data)
    return records


def save_results(results: Results, path: Path) -> None:
    """Write detections unrounded (float32), whole under the file's name or not at all."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **to_arrays(results))  # type: ignore[arg-type]


def load_results(path: Path) -> Results:
    """Read a file that `save_results` wrote."""
    with np.load(path) as saved:
        return results_from(saved)


def to_arrays(results: Results) -> dict[str, NDArray[Any]]:
    """Return detections of all images as arrays: ids and counts of the images, and rows of all, one after the other."""
    every = list(results.values())
    return {
        "ids": np.array(list(results), np.int64),
        "counts": np.array([len(found) for found in every], np.int64),
        "boxes": np.concatenate([found.boxes for found in every]),
        "scores": np.concatenate([found.scores for found in every]),
        "classes": np.concatenate([found.classes for found in every]),
    }


def results_from(arrays: Mapping[str, NDArray[Any]]) -> Results:
    """Return the detections that `to_arrays` has put into arrays.

    Raises:
        ValueError: The arrays do not fit together.
        HarnessError: They hold NaN or infinity, or an image twice.
    """
    results, counts = Results(), arrays["counts"]
    rows = [arrays[name] for name in ("boxes", "scores", "classes")]
    if (counts < 0).any() or any(len(array) != counts.sum() for array in rows) or rows[0].shape[1:] != (4,):
        raise ValueError("the arrays of detections do not fit together")
    parts = (np.split(array, np.cumsum(counts)[:-1]) for array in rows)
    for image_id, boxes, scores, classes in zip(arrays["ids"].tolist(), *parts, strict=True):
        results.add(image_id, Detections(boxes, scores, classes))
    return results
