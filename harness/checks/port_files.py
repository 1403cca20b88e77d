"""The files of a port, judged stage by stage: each stage is fed with what the port itself had before it.

So a mistake shows in the stage where it was made, and not in all that follow. Where the port gives no files of a
stage, the reference's own take their place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.decode import decode, possible_detections, to_image_space
from harness.centernet.preprocess import input_shape, place
from harness.checks.comparison import Comparison
from harness.checks.evaluate import evaluate_records
from harness.checks.heads import compare_heads
from harness.data.dataset import Dataset, Instances
from harness.errors import HarnessError
from harness.types import Detections, Float64, Heads

GREY_LEVELS = 1.5
"""What inputs may differ by: two programs that interpolate round to the same grey level or to the next, and one of
them in steps of its own (OpenCV: 1/32 of a pixel)."""
SCORE_ALLOWED = 1e-5
"""Of a sigmoid in float32, written as text."""
BOX_ALLOWED = 0.01
"""Pixels of the image: float32 at coordinates of some thousands, written as text."""
CLAIM_ALLOWED = 0.0005
"""Of an AP: the tools print three decimals."""

Rows = Sequence[Mapping[str, Any]]


def read_input(card: ModelCard, dataset: Dataset, file: Path, image_id: int) -> NDArray[Any]:
    """The network input that a port wrote for an image: raw, little-endian, in the card's dtype and layout.

    Raises:
        HarnessError: The file is missing, or has another size than the card says.
    """
    shape = input_shape(card, place(card, dataset.size(image_id)))
    dtype = np.dtype(card.input.dtype).newbyteorder("<")
    if not file.is_file():
        raise HarnessError("no such file", file=file, remedy="write the input of every image, or give fewer images")
    expected = math.prod(shape) * dtype.itemsize
    if file.stat().st_size != expected:
        raise HarnessError(
            f"{file.stat().st_size} bytes, where {shape} in {card.input.dtype} are {expected}",
            file=file,
            remedy="write the values as the card has them, without a header",
        )
    return np.fromfile(file, dtype).reshape(shape).astype(card.input.dtype)


def judge_input(card: ModelCard, image_id: int, theirs: NDArray[Any], own: NDArray[np.generic]) -> Comparison:
    """The network input of one image against the suite's own, in grey levels."""
    level = np.array([card.input.scale / std for std in card.input.std])
    level = level.reshape((3, 1, 1) if card.input.layout == "NCHW" else 3)
    difference = np.abs(theirs.astype(np.float64) - own.astype(np.float64)) / level
    difference = np.where(np.isfinite(difference), difference, math.inf)
    measured, share = float(difference.max()), float((difference > GREY_LEVELS).mean())
    problem = None if measured <= GREY_LEVELS else f"{share:.1%} of the values are beyond, in grey levels"
    return Comparison(f"image {image_id}, input", measured, GREY_LEVELS, own.size, problem)


def judge_heads(image_id: int, theirs: Heads, reference: Heads, allowed: Mapping[str, float]) -> list[Comparison]:
    """The heads of one image against the reference's on the same input."""
    return compare_heads(theirs, reference, allowed, f"image {image_id}")


def judge_detections(
    card: ModelCard, dataset: Dataset, image_id: int, theirs: Rows, heads: Heads, margin: float, box_margin: float
) -> Comparison:
    """The rows that a port wrote for one image against what the suite decodes of the heads.

    Args:
        card: The contract.
        dataset: For the size of the image.
        image_id: The image.
        theirs: Its rows of the results file.
        heads: Finite heads of one sample.
        margin: What scores may differ by before the sigmoid's rounding: 0 where the heads are the port's own.
        box_margin: What boxes may differ by, in pixels of the network input.
    """
    placement = place(card, dataset.size(image_id))
    ours = to_image_space(card, decode(card, heads)[0], placement)
    others = to_image_space(card, possible_detections(card, heads, margin + SCORE_ALLOWED), placement)
    scale = 1 / float(min(abs(placement.forward[0, 0]), abs(placement.forward[1, 1])))
    limits = (margin + SCORE_ALLOWED, BOX_ALLOWED + scale * box_margin)
    what = f"image {image_id}, detections"
    rows = _table(theirs)
    certain = _table_of(card, ours)[_certain(card, ours, others, limits[0])]
    lost = _unmatched(certain, rows, limits)
    extra = _unmatched(rows, _table_of(card, others), limits) + _repeated(rows)
    problem = None
    if lost or extra:
        problem = f"{lost} detections of the reference are not in the results, {extra} of the results are none of its"
    return Comparison(what, float(lost + extra), 0.0, len(rows) + len(certain), problem)


def judge_claim(instances: Instances, theirs: Rows, claim: Mapping[str, float]) -> list[Comparison]:
    """The figures that a port claims against those of its own results file, as pycocotools counts them."""
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


def read_claim(file: Path) -> dict[str, float]:
    """A JSON object of figures, such as ``{"AP": 0.364, "images": 5000}``.

    Raises:
        HarnessError: The file is missing or holds something else.
    """
    known = ("AP", "AP50", "AP75", "APs", "APm", "APl", "images")
    remedy = f"give a JSON object with some of {', '.join(known)}, as fractions"
    try:
        claim = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise HarnessError(f"no readable JSON: {error}", file=file, remedy=remedy) from error
    if not isinstance(claim, dict) or not claim or any(name not in known for name in claim):
        raise HarnessError("not an object of figures", file=file, remedy=remedy)
    return {name: float(value) for name, value in claim.items()}


def _table(rows: Rows) -> Float64:
    """(n, 6): category, score, x, y, width, height."""
    return np.array([[r["category_id"], r["score"], *r["bbox"]] for r in rows], np.float64).reshape(-1, 6)


def _table_of(card: ModelCard, found: Detections) -> Float64:
    ids = np.array(card.category_ids)[found.classes]
    corners = found.boxes.astype(np.float64)
    return np.column_stack([ids, found.scores, corners[:, :2], corners[:, 2:] - corners[:, :2]])


def _certain(card: ModelCard, ours: Detections, others: Detections, margin: float) -> NDArray[np.bool_]:
    """Which detections hang on no close call: neither at the K-th place nor, by the count of rivals, near it."""
    rivals = np.sort(others.scores)
    beaten_by = len(rivals) - np.searchsorted(rivals, ours.scores - 2 * margin) - 1
    clear: NDArray[np.bool_] = (beaten_by < card.decode.top_k) & (
        ours.scores > card.decode.score_threshold + 2 * margin
    )
    return clear


def _unmatched(wanted: Float64, given: Float64, limits: tuple[float, float]) -> int:
    """How many of `wanted` have no equal among `given`."""
    missing = 0
    for row in wanted:
        near = (given[:, 0] == row[0]) & (np.abs(given[:, 1] - row[1]) <= limits[0])
        missing += not bool((near & (np.abs(given[:, 2:] - row[2:]).max(axis=1, initial=0.0) <= limits[1])).any())
    return missing


def _repeated(rows: Float64) -> int:
    return len(rows) - len(np.unique(rows, axis=0))
