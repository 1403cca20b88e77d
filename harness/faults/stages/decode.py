"""Decoding of a port, cell by cell: its specification, its computation and the known mistakes in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.decode import boxes_around, centres_at, decode, scores_of
from harness.faults.fault import Fault, FaultStage
from harness.types import Detections, Float32, Heads


@dataclass(frozen=True, slots=True)
class DecodeSpec:
    """Specification of the detections that a port decodes.

    Attributes:
        window: Side of the peak test's window; 1 for no test.
        strict: A peak tops its neighbours, equal ones too.
        half: Peaks are found on float16 scores.
        one_class: Only the best class of a cell counts.
        top_k: Instead of the card's.
        threshold: Instead of the card's.
        class_shift: Added to the class.
        reg: Added to the centre: the head, nothing, or one half.
        logits: Scores are logits.
        iou_nms: Boxes that overlap a better one of their class by more than this IoU are dropped.
    """

    stage: ClassVar[FaultStage] = "decode"

    window: int = 3
    strict: bool = False
    half: bool = False
    one_class: bool = False
    top_k: int | None = None
    threshold: float | None = None
    class_shift: int = 0
    reg: Literal["head", "none", "half"] = "head"
    logits: bool = False
    iou_nms: float | None = None


RIGHT = DecodeSpec()


def decode_as(card: ModelCard, spec: DecodeSpec, heads: Heads) -> Detections:
    """Decode the detections of one sample, boxes in cells of the output grid.

    Args:
        card: The contract that the port should keep.
        spec: How it computes this stage.
        heads: Of one sample, N = 1, finite.

    Raises:
        NonFiniteHeadError: A head holds NaN or infinity.
    """
    if spec == RIGHT:
        return decode(card, heads)[0]
    named = {name: np.asarray(values[0], np.float32) for name, values in heads.items()}
    scores = _scores(card, spec, named["hm"])
    peaks = _peaks(spec, scores)
    threshold = card.decode.score_threshold if spec.threshold is None else spec.threshold
    peaks &= scores > (-np.inf if spec.logits else threshold)
    if spec.one_class:
        peaks &= scores == scores.max(axis=0)
    cells = np.flatnonzero(peaks)
    order = np.argsort(-scores.ravel()[cells], kind="stable")[: spec.top_k or card.decode.top_k]
    cells = cells[order]
    classes, rows, columns = np.unravel_index(cells, scores.shape)
    boxes = _boxes(card, spec, named, rows, columns)
    best = np.asarray(scores.ravel()[cells], np.float32)
    found = Detections(boxes, best, (classes + spec.class_shift).astype(np.int64))
    return found if spec.iou_nms is None else _suppressed(found, spec.iou_nms)


def _scores(card: ModelCard, spec: DecodeSpec, hm: Float32) -> Float32:
    scores = hm if spec.logits else scores_of(card, hm)
    return scores.astype(np.float16).astype(np.float32) if spec.half else scores


def _peaks(spec: DecodeSpec, scores: Float32) -> NDArray[np.bool_]:
    """Mark the cells of (classes, h, w) that pass the peak test."""
    if spec.window == 1:
        return np.ones(scores.shape, bool)
    window = np.ones((spec.window, spec.window), np.uint8)
    if spec.strict:
        window[spec.window // 2, spec.window // 2] = 0
    highest = np.stack([cv2.dilate(plane, window) for plane in scores])
    return scores > highest if spec.strict else scores == highest


def _boxes(
    card: ModelCard, spec: DecodeSpec, heads: dict[str, Float32], rows: NDArray[Any], columns: NDArray[Any]
) -> Float32:
    if spec.reg == "head":
        centres = centres_at(card, heads, rows, columns)
    else:
        centres = np.stack([columns, rows], axis=1).astype(np.float32) + np.float32(0.5 if spec.reg == "half" else 0)
    return boxes_around(card, centres, heads["wh"][:, rows, columns].T)


def _suppressed(found: Detections, limit: float) -> Detections:
    """Drop the boxes that overlap a better one of their class."""
    kept: list[int] = []
    for i in range(len(found)):
        same = [j for j in kept if found.classes[j] == found.classes[i]]
        if all(_iou(found.boxes[i], found.boxes[j]) <= limit for j in same):
            kept.append(i)
    return Detections(found.boxes[kept], found.scores[kept], found.classes[kept])


def _iou(a: Float32, b: Float32) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2]))
    return shared / (areas - shared) if areas > shared else 0.0


DECODE_FAULTS: tuple[Fault[DecodeSpec], ...] = (
    Fault(
        id="peaks-5x5",
        spec=DecodeSpec,
        description="the peak test looks at 5x5 cells",
        seen_in="pooling size of CornerNet's variants",
        change=lambda spec, p: replace(spec, window=5),
    ),
    Fault(
        id="peaks-missing",
        spec=DecodeSpec,
        description="there is no peak test",
        seen_in="graphs whose max pooling was dropped as unsupported",
        change=lambda spec, p: replace(spec, window=1),
    ),
    Fault(
        id="peaks-strict",
        spec=DecodeSpec,
        description="a peak must top its neighbours, so that equal ones are none",
        seen_in="comparison by > in C++ post-processing",
        change=lambda spec, p: replace(spec, strict=True),
    ),
    Fault(
        id="peaks-half",
        spec=DecodeSpec,
        description="peaks are found on float16 scores, where neighbours become equal",
        seen_in="fp16 post-processing on the chip (Ascend om with output_type FP16)",
        change=lambda spec, p: replace(spec, half=True),
        applies=lambda s: s.claims_float32,
    ),
    Fault(
        id="one-class-a-place",
        spec=DecodeSpec,
        description="only the best class of a place counts",
        seen_in="sophon-demo CenterNet: the maximum over the classes comes before the top K",
        change=lambda spec, p: replace(spec, one_class=True),
    ),
    Fault(
        id="top-k",
        spec=DecodeSpec,
        description="another number of detections is kept",
        seen_in="sophon-demo CenterNet: K = 75",
        change=lambda spec, p: replace(spec, top_k=int(p[0])),
        parameters=("K",),
        draw=lambda r: (float(r.choice([20, 50, 75])),),
        guesses=((75.0,), (50.0,), (20.0,)),
        estimate="top_k",
    ),
    Fault(
        id="score-threshold",
        spec=DecodeSpec,
        description="detections below a score are dropped",
        seen_in="a demonstration's threshold left in the evaluation",
        change=lambda spec, p: replace(spec, threshold=p[0]),
        parameters=("score",),
        draw=lambda r: (float(r.uniform(0.25, 0.5)),),
        guesses=((0.3,), (0.25,), (0.5,)),
        estimate="threshold",
    ),
    Fault(
        id="class-off-by-one",
        spec=DecodeSpec,
        description="classes are off by one, as if the first were background",
        seen_in="SSD's and Faster R-CNN's class 0",
        change=lambda spec, p: replace(spec, class_shift=int(p[0])),
        parameters=("classes",),
        draw=lambda r: (float(r.choice([-1, 1])),),
        guesses=((1.0,), (-1.0,)),
    ),
    Fault(
        id="reg-ignored",
        spec=DecodeSpec,
        description="reg is not added to the centre",
        seen_in="post-processing that reads two outputs of three",
        change=lambda spec, p: replace(spec, reg="none"),
        applies=lambda s: s.has_reg,
    ),
    Fault(
        id="reg-half",
        spec=DecodeSpec,
        description="one half is added to the centre instead of reg",
        seen_in="CenterNet's own branch for models without reg",
        change=lambda spec, p: replace(spec, reg="half"),
        applies=lambda s: s.card.output.box == "wh+reg" or not s.has_reg,
    ),
    Fault(
        id="scores-logits",
        spec=DecodeSpec,
        description="scores are logits",
        seen_in="post-processing that takes the graph's hm for probabilities",
        change=lambda spec, p: replace(spec, logits=True),
        applies=lambda s: s.card.output.hm == "logits",
    ),
    Fault(
        id="iou-nms",
        spec=DecodeSpec,
        description="overlapping boxes are suppressed by their IoU",
        seen_in="YOLO's post-processing around another network",
        change=lambda spec, p: replace(spec, iou_nms=p[0]),
        parameters=("IoU",),
        draw=lambda r: (float(r.choice([0.45, 0.5, 0.6])),),
        guesses=((0.45,), (0.5,), (0.6,)),
    ),
)
