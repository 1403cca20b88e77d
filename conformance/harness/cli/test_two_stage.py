"""The command line with a two-stage detector: rows that `score` counts, and verbs that say what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conformance.support.command_line import run
from harness.centernet2.cases import case_model
from harness.data.dataset import load_coco
from harness.data.synthetic import embedded_dataset_root

MODEL = ("--model", "centernet2_narrow")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "narrow.pth"
    torch.save({"model": case_model("narrow").state_dict(), "iteration": 3}, path)
    return path


def test_rows_of_infer_are_those_that_score_counts(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "detected"
    status, said, _ = run("infer", *MODEL, "--weights", str(weights), "--limit", "2", "--output", str(folder))
    assert status == 0, said
    assert "2 images on torch" in said
    rows = json.loads((folder / "detections.json").read_text(encoding="utf-8"))
    dataset = load_coco(embedded_dataset_root("val"), limit=2)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    counted = {entry["image_id"]: entry["detections"] for entry in manifest["images"]}
    assert tuple(counted) == dataset.image_ids
    assert sum(counted.values()) == len(rows) > 0
    for row in rows:
        width, height = dataset.size(row["image_id"])
        x, y, w, h = row["bbox"]
        assert min(x, y) >= 0
        assert x + w <= width + 1e-3
        assert y + h <= height + 1e-3
    status, said, _ = run("score", "--detections", str(folder / "detections.json"), "--limit", "2")
    assert status == 0
    assert "images  2" in said
    assert "2 of the images have detections" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "--output", "{}/x.onnx"],
        ["preprocess", "--output", "{}/x"],
        ["decode", "--heads", "{}", "--output", "{}/x.json"],
        ["convert", "--device", "ascend310", "--output", "{}/x"],
        ["diagnose"],
        ["compare", "--detections", "{}/x.json"],
        ["score", "--outputs", "{}"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_verb_that_needs_heads_says_that_there_are_none(arguments: list[str], tmp_path: Path) -> None:
    status, _, said = run(*(one.format(tmp_path) for one in arguments), *MODEL)
    assert status == 4
    assert "'centernet2_narrow' is a two-stage detector: it has no heatmap" in said
    assert "remedy: use infer" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--device", "onnxruntime"], "is not exported"),
        (["--onnx", "x.onnx"], "no ONNX is taken"),
        (["--precision", "bf16"], "in fp32 only"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_infer_refuses_what_a_two_stage_detector_cannot_do(
    weights: Path, tmp_path: Path, given: list[str], said: str
) -> None:
    folder = tmp_path / "x"
    status, _, told = run("infer", *MODEL, "--weights", str(weights), "--limit", "1", "--output", str(folder), *given)
    assert (status, folder.exists()) == (4, False)
    assert said in told
