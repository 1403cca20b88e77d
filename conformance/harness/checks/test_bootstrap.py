"""The interval of an AP difference: COCO's AP of every resampling, and a decision only where the images allow one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conformance.support.coco_reference import CATEGORY_IDS, instances_of, results_of, synthetic
from harness.checks.bootstrap import LEAST_IMAGES, Difference, paired_bootstrap, student
from harness.checks.evaluate import evaluate
from harness.checks.matching import Matches, match
from harness.data.dataset import Annotation, ImageEntry, Instances
from harness.data.detections import Results
from harness.types import Detections

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def whole(matches: Matches) -> float:
    """AP of the images as they are."""
    return float(matches.average_precision(np.ones((matches.images, 1), np.int32))[0])


def copied(instances: Instances, results: Results, weights: NDArray[np.integer]) -> tuple[Instances, Results]:
    """The data set with every image as often as it was drawn, each copy an image of its own, in the same order."""
    images: list[ImageEntry] = []
    annotations: list[Annotation] = []
    found = Results()
    for image, times in zip(sorted(instances.images, key=lambda one: one.id), weights.tolist(), strict=True):
        for copy in range(times):
            id_ = 1000 * image.id + copy
            images.append(replace(image, id=id_))
            own = [a for a in instances.annotations if a.image_id == image.id]
            annotations += [replace(a, id=len(annotations) + n, image_id=id_) for n, a in enumerate(own)]
            found.add(id_, results[image.id])
    return replace(instances, images=tuple(images), annotations=tuple(annotations)), found


@few
@given(seed=seeds)
def test_point_estimate_is_pycocotools(seed: int) -> None:
    instances, results = synthetic(seed)
    expected = evaluate(instances, results, CATEGORY_IDS).AP
    assert whole(match(instances, results, CATEGORY_IDS)) == pytest.approx(expected, abs=1e-9)


@few
@given(seed=seeds)
def test_ap_of_a_resampling_is_that_of_pycocotools_on_images_copied_as_often_as_drawn(seed: int) -> None:
    # Equal scores in an image would come in another order: first all of one copy, then all of the next.
    instances, results = synthetic(seed, ties=False)
    images = len(instances.images)
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=4).T
    found = match(instances, results, CATEGORY_IDS).average_precision(drawn)
    for weights, ap in zip(drawn.T, found, strict=True):
        of_copies, theirs = copied(instances, results, weights)
        if all(annotation.iscrowd for annotation in of_copies.annotations):
            assert math.isnan(ap)
        else:
            assert ap == pytest.approx(evaluate(of_copies, theirs, CATEGORY_IDS).AP, abs=1e-9)


def test_more_than_a_hundred_detections_of_a_category_do_not_count() -> None:
    wrong = [(5 * i, 300, 5 * i + 20, 320, 0.8 - i / 1000) for i in range(120)]
    objects = [Annotation(n, 0, CATEGORY_IDS[0], (100 * n, 0, 40, 40), 1600, iscrowd=0) for n in range(2)]
    instances, results = instances_of(objects), results_of({0: [(0, 0, 40, 40, 0.9), *wrong, (100, 0, 140, 40, 0.1)]})
    assert whole(match(instances, results, CATEGORY_IDS)) == pytest.approx(51 / 101, abs=1e-12)


def test_many_resamplings_are_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    instances, results = synthetic(3)
    matches = match(instances, results, CATEGORY_IDS)
    drawn = np.random.default_rng(0).integers(0, 3, (matches.images, 50))
    at_once = matches.average_precision(drawn)
    monkeypatch.setattr("harness.checks.matching.CELLS", 7)
    np.testing.assert_array_equal(matches.average_precision(drawn), at_once)


def one_object_each(found: NDArray[np.bool_]) -> tuple[Instances, Results]:
    """Images with one object each, found or not, and nothing else."""
    objects = [Annotation(n, n, CATEGORY_IDS[0], (0, 0, 40, 40), 1600, iscrowd=0) for n in range(len(found))]
    rows = {n: [(0, 0, 40, 40, 0.9)] if hit else [] for n, hit in enumerate(found)}
    return instances_of(objects, len(found)), results_of(rows)


def compared(device: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Difference:
    sides = [match(*one_object_each(found), CATEGORY_IDS) for found in (device, reference)]
    return paired_bootstrap(*sides)


def test_interval_is_that_of_a_share_where_ap_is_one() -> None:
    """AP is then the share of the objects found, to one of the 101 recall levels, and its standard error known."""
    images = 400
    found = np.arange(images) % 5 > 0
    difference = compared(found, np.ones(images, bool))
    assert difference.loss == pytest.approx(0.2, abs=0.01)
    error = math.sqrt(0.2 * 0.8 / images)
    assert difference.high - difference.low == pytest.approx(2 * 1.966 * error, abs=1.1 / 101)
    assert (difference.high + difference.low) / 2 == pytest.approx(0.2, abs=0.01)


def test_what_both_sides_miss_alike_is_no_uncertainty() -> None:
    found = np.arange(50) % 2 > 0
    difference = compared(found, found)
    assert (difference.loss, difference.low, difference.high) == (0, 0, 0)
    assert difference.decides(0.0005)


def test_same_detections_get_the_same_interval() -> None:
    found = np.arange(30) % 3 > 0
    assert compared(found, np.ones(30, bool)) == compared(found, np.ones(30, bool))


def test_resampling_without_objects_is_left_out() -> None:
    images = 12
    objects = [Annotation(0, 0, CATEGORY_IDS[0], (0, 0, 40, 40), 1600, iscrowd=0)]
    instances = instances_of(objects, images)
    results = results_of({n: [(0, 0, 40, 40, 0.9)] if n == 0 else [] for n in range(images)})
    matches = match(instances, results, CATEGORY_IDS)
    difference = paired_bootstrap(matches, matches)
    assert (difference.low, difference.high) == (0, 0)


@pytest.mark.parametrize(("freedom", "stated"), [(9, 2.2622), (10, 2.2281), (30, 2.0423), (199, 1.972), (10**6, 1.96)])
def test_students_distribution_is_that_of_the_tables(freedom: int, stated: float) -> None:
    assert student(0.95, freedom) == pytest.approx(stated, abs=2e-4)


@pytest.mark.parametrize(
    ("low", "loss", "high", "decides", "needed"),
    [
        pytest.param(-0.004, 0.008, 0.020, False, 1800, id="six arms from the limit"),
        pytest.param(0.004, 0.012, 0.020, False, 800, id="beyond the limit by a fourth of an arm"),
        pytest.param(0.002, 0.005, 0.010, True, 50, id="all of it allowed"),
        pytest.param(0.011, 0.013, 0.020, True, 50, id="none of it allowed"),
        pytest.param(0.009, 0.010, 0.011, False, None, id="on the limit"),
    ],
)
def test_images_that_decide_go_with_the_square_of_the_interval(
    low: float, loss: float, high: float, decides: bool, needed: int | None
) -> None:
    difference = Difference(loss, low, high, 50)
    assert difference.decides(0.01) == decides
    found = difference.images_to_decide(0.01)
    assert found == needed if needed is None else found == pytest.approx(needed, abs=1)


def test_few_images_decide_nothing_whatever_the_interval() -> None:
    assert Difference(0.0, 0.0, 0.0, LEAST_IMAGES).decides(0.01)
    few_images = Difference(0.0, 0.0, 0.0, LEAST_IMAGES - 1)
    assert not few_images.decides(0.01)
    assert few_images.images_to_decide(0.01) == LEAST_IMAGES


def test_undecided_says_so_and_how_many_images_would_do() -> None:
    assert Difference(0.008, -0.004, 0.02, 50).describe(0.01) == (
        "not decidable on 50 images: AP loss 0.0080, 95% interval -0.0040 to 0.0200 (paired bootstrap over 50 images), "
        "allowed 0.0100; about 1800 images would settle it"
    )
    assert Difference(0.001, 0.0, 0.002, 50).describe(0.01).startswith("AP loss 0.0010, 95% interval 0.0000 to 0.0020")
    assert "no number of images would settle it" in Difference(0.01, 0.0, 0.02, 50).describe(0.01)


def test_detections_of_nothing_are_ap_zero() -> None:
    instances, _ = one_object_each(np.ones(3, bool))
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    results = Results()
    for image in instances.images:
        results.add(image.id, nothing)
    assert whole(match(instances, results, CATEGORY_IDS)) == 0
