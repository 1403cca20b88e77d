"""An AP that stays as it is whatever a port does wrong decides nothing."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conformance.support.small_model import small_card
from conformance.support.tiny import TinySetup
from harness.cards import ModelCard
from harness.cards.tolerances import load_tolerance
from harness.checks.accuracy import Evidence, check_accuracy, impossible_scores
from harness.checks.bootstrap import paired_bootstrap
from harness.checks.evaluate import evaluate
from harness.checks.matching import match
from harness.checks.outcome import StageResult
from harness.checks.shown_faults import show_faults
from harness.data.dataset import Annotation, Category, Dataset, ImageEntry, Instances
from harness.data.detections import Results
from harness.report.records import Document
from harness.run import check
from harness.run.options import parse_options
from harness.types import Detections

pytestmark = pytest.mark.attacks

CARD = small_card()
IMAGES, OBJECTS = 12, 6
"""Enough images for an interval, so that nothing but what AP shows is in the way."""

Change = Callable[[Detections], Detections]


def truth(classes: int = 80) -> Dataset:
    """Images of 96 x 64 pixels with objects of different classes, sides and places."""
    random = np.random.default_rng(0)
    annotations: list[Annotation] = []
    for image in range(IMAGES):
        for _ in range(OBJECTS):
            x, y, width, height = (float(v) for v in random.uniform((0, 0, 16, 10), (60, 40, 36, 24)))
            category = CARD.category_ids[int(random.integers(classes))]
            box = (x, y, width, height)
            annotations.append(Annotation(len(annotations), image, category, box, width * height, 0))
    entries = tuple(ImageEntry(image, f"{image}.png", 96, 64) for image in range(IMAGES))
    return Dataset(Path(), Instances(entries, tuple(annotations), tuple(Category(i, "c") for i in CARD.category_ids)))


def found_in(dataset: Dataset, change: Change = lambda found: found) -> Results:
    """The objects themselves with falling scores, and as many detections of nothing below them."""
    random, results = np.random.default_rng(1), Results()
    for image in dataset.image_ids:
        own = [one for one in dataset.instances.annotations if one.image_id == image]
        boxes = np.array([one.bbox for one in own], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([CARD.category_ids.index(one.category_id) for one in own])
        wrong = boxes + random.uniform(20, 40, boxes.shape).astype(np.float32)
        scores = np.sort(random.uniform(0.1, 1.0, 2 * len(own)).astype(np.float32))[::-1]
        every = np.concatenate([boxes, wrong])
        results.add(image, change(Detections(every, scores, np.concatenate([classes, classes]))))
    return results


def judged(
    dataset: Dataset, both: Results, precision: str = "int8", *, decides: bool = True, card: ModelCard = CARD
) -> StageResult:
    """A device with the very detections of its reference."""
    metrics = evaluate(dataset.instances, both, CARD.category_ids)
    matches = match(dataset.instances, both, CARD.category_ids)
    difference = paired_bootstrap(matches, matches)
    evidence = Evidence(show_faults(card, dataset, both), decides)
    return check_accuracy(card, 1, metrics, metrics.AP, difference, load_tolerance(precision), {}, evidence)


def turned(found: Detections) -> Detections:
    return dataclasses.replace(found, classes=(found.classes + 1) % 80)


def nowhere(found: Detections) -> Detections:
    return dataclasses.replace(found, boxes=found.boxes + np.float32(1000))


def square(found: Detections) -> Detections:
    """One box for all, as high as wide and on the diagonal."""
    return dataclasses.replace(found, boxes=np.tile(np.array([[20, 20, 40, 40]], np.float32), (len(found), 1)))


def level(found: Detections) -> Detections:
    return dataclasses.replace(found, scores=np.full_like(found.scores, 0.5))


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_ap_of_right_detections_decides(precision: str) -> None:
    result = judged(truth(), found_in(truth()), precision)
    assert result.stage.outcome == "passed", result.stage.detail
    assert result.stage.detail == "AP shows boxes that are too large from 3 % on"


@pytest.mark.attacks(always=True)
def test_classes_wrong_on_both_sides_alike_are_undecided() -> None:
    result = judged(truth(), found_in(truth(), turned))
    assert result.stage.outcome == "undecided"
    assert (result.stage.detail or "").startswith("AP cannot show a fault: classes + 1 (AP 0.0")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (nowhere, "a shift of one cell (AP 0.0000, with it 0.0000)"),
        (square, "x and y exchanged"),
        (level, "scores permuted"),
    ],
)
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_what_ap_does_not_show_is_said(change: Change, fault: str, precision: str) -> None:
    stage = judged(truth(), found_in(truth(), change), precision).stage
    assert stage.outcome == "undecided"
    assert "AP cannot show a fault: " in (stage.detail or "")
    assert fault in (stage.detail or "")


def test_no_detections_at_all_on_either_side_are_undecided() -> None:
    empty = found_in(truth(), lambda found: Detections(found.boxes[:0], found.scores[:0], found.classes[:0]))
    stage = judged(truth(), empty).stage
    assert stage.outcome == "undecided"
    assert (stage.detail or "").count("(AP 0.0000, with it 0.0000)") == 5


def test_where_heads_are_compared_it_is_a_remark() -> None:
    stage = judged(truth(), found_in(truth(), nowhere), "fp32", decides=False).stage
    assert stage.outcome == "passed"
    assert (stage.detail or "").startswith("AP cannot show a fault: classes + 1 (AP 0.0000, with it 0.0000)")


def test_loss_that_is_beyond_what_is_allowed_deviates_all_the_same() -> None:
    dataset, golden = truth(), found_in(truth(), square)
    matches = match(dataset.instances, golden, CARD.category_ids)
    metrics = evaluate(dataset.instances, golden, CARD.category_ids)
    evidence, difference = (
        Evidence(show_faults(CARD, dataset, golden), decides=True),
        paired_bootstrap(matches, matches),
    )
    result = check_accuracy(CARD, 1, metrics, 0.9, difference, load_tolerance("fp32"), {}, evidence)
    assert result.stage.outcome == "failed"


def test_model_of_one_class_is_not_asked_for_another() -> None:
    one = CARD.model_copy(update={"category_ids": CARD.category_ids[:1]})
    assert list(show_faults(one, truth(1), found_in(truth(1))).faults) == [
        "boxes x 1.02", "x and y exchanged", "a shift of one cell", "scores permuted",
    ]  # fmt: skip


def test_ap_that_is_no_number_deviates() -> None:
    dataset, found = truth(), found_in(truth())
    metrics = evaluate(dataset.instances, found, CARD.category_ids)
    sides = match(dataset.instances, found, CARD.category_ids)
    evidence = Evidence(show_faults(CARD, dataset, found), decides=True)
    with pytest.raises(ValueError, match="reference_AP"):
        check_accuracy(CARD, 1, metrics, math.nan, paired_bootstrap(sides, sides), load_tolerance("fp32"), {}, evidence)


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.5, 1.7, 255.0])
def test_scores_that_are_none_deviate_though_their_order_is_right(score: float) -> None:
    said = impossible_scores([0.2, score, 1.0])
    assert said is not None
    assert "1 scores do not lie in 0..1" in said
    assert impossible_scores([0.0, 1.0, 1.001]) is None
    dataset, found = truth(), found_in(truth())
    sides = match(dataset.instances, found, CARD.category_ids)
    evidence = Evidence(show_faults(CARD, dataset, found), decides=True, problem=said)
    metrics = evaluate(dataset.instances, found, CARD.category_ids)
    difference = paired_bootstrap(sides, sides)
    result = check_accuracy(CARD, 1, metrics, metrics.AP, difference, load_tolerance("int8"), {}, evidence)
    assert (result.stage.outcome, said in (result.stage.detail or "")) == ("failed", True)


def foreign(tiny: TinySetup, folder: Path, *, wrong: bool) -> Document:
    """The tiny network as an ONNX by others, its card right or with size and offset taken for each other."""
    text = tiny.card.read_text().replace(tiny.card.read_text().partition("[network]")[2].partition("[input]")[0], "")
    text = text.replace("[network]", "")
    if wrong:
        text = text.replace('["hm", "wh", "reg"]', '["hm", "reg", "wh"]').replace(
            'hm = "logits"', 'heads = ["hm", "wh", "reg"]\nhm = "logits"'
        )
    card = folder / "foreign.toml"
    card.write_text(text)
    options = parse_options(
        device="onnxruntime", model=str(card), onnx=tiny.onnx, coco=tiny.coco, batch_sizes="1,2", limit=2
    )
    return check(options, say=lambda text: None)


@pytest.mark.attacks(always=True)
def test_foreign_model_with_a_wrong_card_does_not_conform(tiny: TinySetup, tmp_path: Path) -> None:
    document = foreign(tiny, tmp_path, wrong=True)
    assert document.verdict == "undecided", json.dumps(document.model_dump(mode="json"), indent=1)
    [run] = document.runs
    assert [stage.outcome for stage in run.stages if stage.name == "heads"] == ["passed", "passed"]
    alone, batch = (stage for stage in run.stages if stage.name == "accuracy")
    assert "this run is the reference: its AP is measured, not compared; AP cannot show a fault" in (alone.detail or "")
    assert (alone.outcome, batch.outcome) == ("undecided", "undecided")


def test_foreign_model_with_a_right_card_conforms_on_two_images(tiny: TinySetup, tmp_path: Path) -> None:
    assert foreign(tiny, tmp_path, wrong=False).verdict == "conforms"
