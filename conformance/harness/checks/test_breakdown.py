"""The breakdown of an AP names every class that has objects, the one that lost most first, in figures of few digits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.support.coco_reference import CATEGORY_IDS, instances_of, results_of, synthetic
from harness.checks.breakdown import break_down
from harness.checks.evaluate import evaluate
from harness.data.dataset import Annotation

HIT = (0, 0, 40, 40)
FIRST, SECOND = CATEGORY_IDS[:2]


def annotation(number: int, category: int, iscrowd: int = 0) -> Annotation:
    return Annotation(number, 0, category, (0, 0, 40, 40), 1600, iscrowd=iscrowd)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_parts_are_those_of_the_ap(seed: int) -> None:
    instances, golden = synthetic(seed)
    fewer = results_of({image_id: [] for image_id in golden})
    device, reference = (evaluate(instances, found, CATEGORY_IDS) for found in (fewer, golden))
    found = break_down(instances, device, reference)
    assert np.mean([one.reference_AP for one in found.classes]) == pytest.approx(reference.AP, abs=1e-4)
    assert np.mean(found.reference_curve.mean) == pytest.approx(reference.AP, abs=1e-3)
    assert np.mean(found.reference_curve.at_50) == pytest.approx(reference.AP50, abs=1e-3)
    assert not any(found.curve.mean)
    losses = [one.reference_AP - one.AP for one in found.classes]
    assert losses == sorted(losses, reverse=True)
    expected = [None if size is None else pytest.approx(size, abs=1e-4) for size in (reference.APs, reference.APm)]
    assert list(found.reference_sizes[:2]) == expected


def test_crowds_are_no_objects_and_make_no_class() -> None:
    instances = instances_of([annotation(0, FIRST), annotation(1, FIRST, iscrowd=1), annotation(2, SECOND, iscrowd=1)])
    metrics = evaluate(instances, results_of({0: [(*HIT, 0.9)]}), CATEGORY_IDS)
    [one] = break_down(instances, metrics, metrics).classes
    [name] = [category.name for category in instances.categories if category.id == FIRST]
    assert (one.name, one.objects, one.AP, one.reference_AP) == (name, 1, 1.0, 1.0)
