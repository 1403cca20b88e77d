"""Detections are collected, rounded and written as COCO results without other changes."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from conformance.support.coco_reference import CATEGORY_IDS, results_of, synthetic
from harness.checks.evaluate import Evaluator, evaluate, evaluate_records
from harness.data.detections import Results, read_coco_json, to_coco_json
from harness.errors import HarnessError

ROW = (0, 0, 40, 40, 0.9)
tables = npst.arrays(np.float32, (3, 5), elements=st.floats(-2048, 2048, width=32))


def test_class_index_becomes_category_id() -> None:
    results = Results()
    results.add(7, replace(results_of({0: [ROW]})[0], classes=np.array([2])))
    [record] = to_coco_json(results, CATEGORY_IDS)
    assert record == {"image_id": 7, "category_id": 90, "bbox": [0, 0, 40, 40], "score": float(np.float32(0.9))}


@pytest.mark.parametrize("index", [-1, 3])
def test_class_beyond_the_categories_is_an_error(index: int) -> None:
    results = Results()
    results.add(7, replace(results_of({0: [ROW]})[0], classes=np.array([index])))
    with pytest.raises(HarnessError, match=f"image 7 has detections of class {index}, the model card has 3 classes"):
        to_coco_json(results, CATEGORY_IDS)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rounding_is_that_of_the_official_tools(seed: int) -> None:
    table = np.random.default_rng(seed).uniform(-2048, 2048, (1000, 5)).astype(np.float32)
    table[::2] = np.round(table[::2] * 8) / 8  # eighths are halves of a hundredth, which go to the even one
    records = to_coco_json(results_of({0: table.tolist()}), CATEGORY_IDS, rounding=True)
    for row, record in zip(table, records, strict=True):
        row[2:4] -= row[0:2]
        assert [*record["bbox"], record["score"]] == [float(f"{value:.2f}") for value in row]


@settings(deadline=None)
@given(table=tables)
def test_rounding_moves_no_value_by_more_than_half_a_hundredth(table: NDArray[np.float32]) -> None:
    results = results_of({0: table.tolist()})
    exact, rounded = (to_coco_json(results, CATEGORY_IDS, rounding=rounding) for rounding in (False, True))
    for one, other in zip(exact, rounded, strict=True):
        moved = np.abs(np.array([*one["bbox"], one["score"]]) - [*other["bbox"], other["score"]])
        # The official subtraction in float32 moves a width of up to 4096 by half a step of 2^-12 more.
        assert moved.max() <= 0.005 + 2**-13 + 2**-40


@settings(deadline=None)
@given(table=tables)
def test_without_rounding_records_hold_the_detections(table: NDArray[np.float32]) -> None:
    for row, record in zip(table, to_coco_json(results_of({0: table.tolist()}), CATEGORY_IDS), strict=True):
        x, y, w, h = record["bbox"]
        assert np.abs(np.array([x, y, x + w, y + h, record["score"]]) - row.astype(np.float64)).max() <= 2**-40


@pytest.mark.parametrize("evaluator", get_args(Evaluator))
def test_evaluation_edits_nothing_and_prints_nothing(evaluator: Evaluator, capfd: pytest.CaptureFixture[str]) -> None:
    instances, results = synthetic(5)
    records = to_coco_json(results, CATEGORY_IDS)
    before = copy.deepcopy((instances, records, results))
    first = evaluate(instances, results, CATEGORY_IDS, evaluator=evaluator)
    assert evaluate_records(instances, records, evaluator=evaluator) == first
    assert (instances, records) == before[:2]
    assert list(results) == list(before[2])
    for image_id, detections in before[2].items():
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_array_equal(getattr(results[image_id], name), getattr(detections, name))
    assert capfd.readouterr() == ("", "")


def test_results_keep_their_own_copy() -> None:
    first = results_of({0: [ROW]})[0]
    results = Results()
    results.add(0, first)
    first.boxes[:] = 7
    np.testing.assert_array_equal(results[0].boxes, [ROW[:4]])


def test_image_run_twice_is_an_error() -> None:
    results = results_of({0: [ROW]})
    with pytest.raises(HarnessError, match="image 0 has results already"):
        results.add(0, results[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", range(5))
def test_detections_that_are_not_finite_are_an_error(column: int, value: float) -> None:
    row = [*ROW]
    row[column] = value
    with pytest.raises(HarnessError, match="image 3 hold NaN or infinite"):
        results_of({3: [ROW, row]})


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_results_file_reads_back_the_same(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    records = to_coco_json(synthetic(seed)[1], CATEGORY_IDS)
    file = tmp_path_factory.mktemp("results") / "results.json"
    file.write_text(json.dumps(records))
    assert read_coco_json(file) == records


GOOD: dict[str, Any] = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}


@pytest.mark.parametrize("key", GOOD)
@pytest.mark.parametrize("value", [None, "1", [0, 0, 1], [0, 0, 1, "1"], float("nan"), float("-inf")])
def test_wrong_entry_of_a_results_file_is_named(tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps([GOOD, {**GOOD, key: value}]))
    with pytest.raises(HarnessError, match="not a COCO results file") as caught:
        read_coco_json(file)
    assert caught.value.file == str(file)
    assert str(caught.value.field).startswith(f"1.{key}")


@pytest.mark.parametrize("text", ["", json.dumps([GOOD])[:-9], "7", '{"images": []}', '[{"image_id": 1}]'])
def test_file_that_holds_no_results_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(HarnessError, match="not a COCO results file"):
        read_coco_json(file)


def test_missing_results_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"none\.json: cannot be read: No such file"):
        read_coco_json(tmp_path / "none.json")
