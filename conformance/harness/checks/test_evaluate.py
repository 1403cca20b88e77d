"""Detections are evaluated as COCO defines it, over exactly the images that were asked for."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.support.coco_reference import CATEGORY_IDS, instances_of, numbers, reference, results_of, synthetic
from harness.checks.evaluate import Evaluator, evaluate, evaluate_records
from harness.data.dataset import Annotation, read_instances
from harness.data.detections import Results, read_coco_json, to_coco_json
from harness.errors import HarnessError
from harness.types import Detections

EVALUATORS: tuple[Evaluator, ...] = get_args(Evaluator)
HIT, SECOND, MISS = (0, 0, 40, 40), (100, 0, 140, 40), (200, 200, 240, 240)
TWICE = [(*HIT, 0.9), (*HIT, 0.8), (*SECOND, 0.7)]
ONE = Annotation(0, 0, CATEGORY_IDS[0], (0, 0, 40, 40), 1600, iscrowd=0)
OTHER = Annotation(1, 0, CATEGORY_IDS[0], (100, 0, 40, 40), 1600, iscrowd=0)
CROWD = Annotation(1, 0, CATEGORY_IDS[0], (200, 200, 100, 100), 1e4, iscrowd=1)

every_evaluator = pytest.mark.parametrize("evaluator", EVALUATORS)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def assert_same(measured: Sequence[float | None], expected: Sequence[float | None]) -> None:
    # assert_allclose takes None for NaN once the dtype is float, and two NaN for equal.
    np.testing.assert_allclose(np.array(measured, float), np.array(expected, float), rtol=0, atol=1e-9)
    assert expected[0] is not None


@every_evaluator
@few
@given(seed=seeds)
def test_metrics_equal_definition(evaluator: Evaluator, seed: int) -> None:
    instances, results = synthetic(seed)
    metrics = evaluate(instances, results, CATEGORY_IDS, evaluator=evaluator)
    assert_same(numbers(metrics), reference(instances, to_coco_json(results, CATEGORY_IDS)))
    assert metrics.images == len(instances.images)


@every_evaluator
@few
@given(seed=seeds)
def test_curves_are_what_the_numbers_are_made_of(evaluator: Evaluator, seed: int) -> None:
    instances, results = synthetic(seed)
    metrics = evaluate(instances, results, CATEGORY_IDS, evaluator=evaluator)
    by_category = metrics.curves.by_category
    assert_same(
        [np.mean(metrics.curves.mean), np.mean(metrics.curves.at_50), np.mean(list(by_category.values()))],
        [metrics.AP, metrics.AP50, metrics.AP],
    )
    assert len(metrics.curves.mean) == len(metrics.curves.at_50) == 101
    records = to_coco_json(results, CATEGORY_IDS)
    for category, ap in by_category.items():
        own = replace(instances, annotations=tuple(a for a in instances.annotations if a.category_id == category))
        assert_same([ap], reference(own, [record for record in records if record["category_id"] == category])[:1])


@every_evaluator
def test_more_than_hundred_detections_equal_definition(evaluator: Evaluator) -> None:
    wrong = [(5 * i, 300, 5 * i + 20, 320, 0.8 - i / 1000) for i in range(120)]
    instances, results = instances_of([ONE, OTHER]), results_of({0: [(*HIT, 0.9), *wrong, (*SECOND, 0.1)]})
    metrics = evaluate(instances, results, CATEGORY_IDS, evaluator=evaluator)
    assert metrics.AR100 == 0.5, "the second object was found with the 122nd detection"
    assert_same(numbers(metrics), reference(instances, to_coco_json(results, CATEGORY_IDS)))


@every_evaluator
@pytest.mark.parametrize(
    ("annotations", "rows", "wanted"),
    [
        pytest.param([ONE], [(*HIT, 0.9)], {"AP": 1, "APm": 1, "APs": None, "ARl": None}, id="found"),
        pytest.param([ONE, OTHER], [(*HIT, 0.9)], {"AP": 51 / 101, "AR100": 0.5}, id="one of two found"),
        pytest.param([ONE, OTHER], [(*HIT, 0.9), (*SECOND, 0.8)], {"AP": 1, "AR1": 0.5, "AR10": 1}, id="both found"),
        pytest.param([ONE], [(*MISS, 0.9), (*HIT, 0.8)], {"AP": 0.5, "AR100": 1}, id="wrong one first"),
        pytest.param([ONE, OTHER], TWICE, {"AP50": (51 + 50 * 2 / 3) / 101, "AR10": 1}, id="one found twice"),
        pytest.param([ONE], [(0, 0, 40, 37, 0.9), (*HIT, 0.8)], {"AP": 0.95}, id="IoU 0.925 in front of IoU 1"),
        pytest.param([ONE], [(0, 0, 40, 25, 0.9)], {"AP": 0.3, "AP50": 1, "AP75": 0}, id="IoU 0.625"),
        pytest.param([ONE], [], {"AP": 0, "AR100": 0}, id="nothing found"),
        pytest.param([ONE, CROWD], [(*MISS, 0.9), (*HIT, 0.8)], {"AP": 1}, id="in a crowd"),
        pytest.param([ONE], [(200, 200, 220, 220, 0.9), (*HIT, 0.8)], {"AP": 0.5, "APm": 1}, id="wrong in other size"),
        pytest.param([ONE, replace(OTHER, category_id=17)], [(*HIT, 0.9)], {"AP": 0.5}, id="category the model lacks"),
    ],
)
def test_cases_worked_by_hand(
    evaluator: Evaluator, annotations: list[Annotation], rows: list[tuple[float, ...]], wanted: dict[str, float | None]
) -> None:
    metrics = evaluate(instances_of(annotations), results_of({0: rows}), CATEGORY_IDS, evaluator=evaluator)
    assert {name: getattr(metrics, name) for name in wanted} == pytest.approx(wanted, abs=1e-12)


@pytest.mark.skipif(
    "CENTERNET_CONFORMANCE_DATA" not in os.environ,
    reason="CENTERNET_CONFORMANCE_DATA does not name a folder with cocoapi_eval/, the example data of the COCO API",
)
@every_evaluator
def test_published_numbers_of_the_coco_api(evaluator: Evaluator) -> None:
    folder = Path(os.environ["CENTERNET_CONFORMANCE_DATA"]) / "cocoapi_eval"
    instances = read_instances(folder / "instances_val2014_100.json")
    records = read_coco_json(folder / "instances_val2014_fakebbox100_results.json")
    metrics = evaluate_records(instances, records, evaluator=evaluator)
    published = [
        *(0.5045806987249628, 0.6969727247299577, 0.5729816669904824),
        *(0.5856257209410443, 0.5193996948036719, 0.5013978986347466),
        *(0.38681277964578054, 0.5936795762842003, 0.595352982877607),
        *(0.6398109626113442, 0.5664205978994309, 0.5642905982905982),
    ]
    assert_same(numbers(metrics), published)
    assert metrics.images == 100


@few
@given(seed=seeds, order=st.randoms(use_true_random=False))
def test_order_of_images_and_detections_does_not_matter(seed: int, order: random.Random) -> None:
    instances, results = synthetic(seed, ties=False)
    shuffled = Results()
    for image_id in order.sample(sorted(results), len(results)):
        kept = results[image_id]
        mixed = order.sample(range(len(kept)), len(kept))
        shuffled.add(image_id, Detections(kept.boxes[mixed], kept.scores[mixed], kept.classes[mixed]))
    images = tuple(order.sample(instances.images, len(instances.images)))
    metrics = evaluate(replace(instances, images=images), shuffled, CATEGORY_IDS)
    assert metrics == evaluate(instances, results, CATEGORY_IDS)


@few
@given(seed=seeds)
def test_perfect_detections_reach_ap_1(seed: int) -> None:
    instances, _ = synthetic(seed)
    truth = [a for a in instances.annotations if not a.iscrowd]
    rows = [{"image_id": a.image_id, "category_id": a.category_id, "bbox": list(a.bbox), "score": 0.5} for a in truth]
    metrics = evaluate_records(instances, rows)
    # AR1 alone stays lower where an image has two objects of a category.
    assert {round(value, 9) for value in numbers(replace(metrics, AR1=1.0)) if value is not None} == {1.0}


def test_images_without_detections_count_as_missed() -> None:
    instances = instances_of([ONE, replace(OTHER, image_id=1)], images=3)
    metrics = evaluate(instances, results_of({0: [(*HIT, 0.9)], 1: [], 2: []}), CATEGORY_IDS)
    assert (metrics.AR100, metrics.images) == (0.5, 3)


def test_rounding_makes_close_scores_equal_and_says_so() -> None:
    results = results_of({0: [(*HIT, 0.901)], 1: [(*MISS, 0.904)]})
    instances = instances_of([ONE], images=2)
    exact, rounded = (evaluate(instances, results, CATEGORY_IDS, rounding=rounding) for rounding in (False, True))
    np.testing.assert_allclose([exact.AP, rounded.AP], [0.5, 1.0], rtol=0, atol=1e-12)
    assert [exact.rounded, rounded.rounded] == [False, True]


def test_images_never_run_are_named() -> None:
    with pytest.raises(HarnessError, match=r"6 of the 7 images have no results: 1, 2, 3, 4, 5, \.\.\."):
        evaluate(instances_of([ONE], images=7), results_of({0: []}), CATEGORY_IDS)


def test_image_beyond_the_data_set_is_named() -> None:
    results = results_of({0: [], 9: [(*HIT, 0.9)]})
    with pytest.raises(HarnessError, match="1 images that the data set has not: 9"):
        evaluate(instances_of([ONE]), results, CATEGORY_IDS)
    with pytest.raises(HarnessError, match="1 images that the data set has not: 9"):
        evaluate_records(instances_of([ONE]), to_coco_json(results, CATEGORY_IDS))


def test_category_beyond_the_data_set_is_named() -> None:
    with pytest.raises(HarnessError, match="2 categories that the data set has not: 2, 4"):
        evaluate(instances_of([ONE]), results_of({0: []}), (1, 2, 3, 4))
    with pytest.raises(HarnessError, match="1 categories that the data set has not: 2"):
        evaluate_records(instances_of([ONE]), to_coco_json(results_of({0: [(*HIT, 0.9)]}), (2,)))


@pytest.mark.parametrize("annotations", [[], [CROWD]], ids=["empty", "crowd only"])
def test_nothing_to_find_is_an_error(annotations: list[Annotation]) -> None:
    with pytest.raises(HarnessError, match="no object is annotated in the 1 images"):
        evaluate(instances_of(annotations), results_of({0: [(*HIT, 0.9)]}), CATEGORY_IDS)
