"""Shards of a run of a two-stage detector, merged, are the run in one piece, and its page is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conformance.harness.run.test_two_stage import PORT, Arrays, Change, Port, files
from harness.devices.torch import TorchDevice
from harness.report.records import Document
from harness.run import session
from harness.run.checking import run_check
from harness.run.merging import MergeOptions, merge
from harness.run.options import CheckOptions, parse_options
from harness.run.parts import read_parts
from harness.run.shard import Shard

__all__ = ["files"]  # a fixture
pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = 4


def right(outputs: Arrays) -> Arrays:
    return outputs


def rounded(outputs: Arrays) -> Arrays:
    scores = outputs["scores"].astype(np.float64)
    return {**outputs, "scores": (scores.round(5) * (scores > 0)).astype(np.float32)}


def too_large(outputs: Arrays) -> Arrays:
    return {**outputs, "boxes": (outputs["boxes"] * 1.02).astype(outputs["boxes"].dtype)}


def judged(document: Document) -> object:
    """All of a document that a merged one has as well, but for the store's."""
    [run] = document.runs
    accuracy = [one.model_copy(update={"stored": None, "reference_stored": None}) for one in run.accuracy]
    return document.verdict, document.problems, run.verdict, run.stages, accuracy


@pytest.mark.parametrize(
    ("device", "change"), [("torch", right), (PORT, rounded), (PORT, too_large)], ids=["reference", "rounded", "wrong"]
)
def test_merged_shards_are_the_run_in_one_piece(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, change: Change
) -> None:
    port = Port(change, {})
    monkeypatch.setattr(session, "create_device", lambda name: port if name == PORT else TorchDevice())
    given = parse_options(device="torch", model=str(files[0]), weights=files[1], limit=IMAGES)

    def check(options: CheckOptions) -> Document:
        return run_check(replace(options, devices=(device,)), lambda text: None, None)

    whole = check(replace(given, report=tmp_path / "page"))
    documents = [tmp_path / f"{index}.json" for index in (1, 2)]
    for index, results in enumerate(documents, 1):
        part = check(replace(given, shard=Shard(index, 2), results=results))
        assert part.verdict in ("part", "deviates")
    merged = merge(read_parts(documents, None), MergeOptions(), print)
    assert judged(merged) == judged(whole)
    assert (whole.verdict == "conforms") == (change is not too_large)
    assert whole.verdict in (tmp_path / "page" / "report.md").read_text()
