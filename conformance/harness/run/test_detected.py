"""Only batches that are not stored are run, and all comes out as if none were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conformance.support.tiny import TinySetup
from harness.devices.artifact import Artifact
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.report.records import Stored
from harness.run.detected import Plan, load_detected
from harness.run.options import parse_options
from harness.run.session import Session
from harness.run.store import Policy, Shelf, Store

pytestmark = pytest.mark.usefixtures("one_thread")


def shelf(folder: Path) -> Shelf:
    return Store(Policy(), folder, "first").shelf({"device": "chip"}, judged=False)


def session(tiny: TinySetup, folder: Path, **given: Any) -> Session:  # noqa: ANN401
    options = parse_options(model=str(tiny.card), weights=tiny.weights, coco=tiny.coco, batch_sizes="4", **given)
    return Session(options, folder, lambda text: None)


class Counting(OnnxRuntimeDevice):
    """Counts the batches that it runs."""

    batches = 0

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Any:  # noqa: ANN401
        """Run one."""
        self.batches += 1
        return super().run(artifact, images)


def run(tiny: TinySetup, tmp_path: Path, shelf_: Shelf | None, wanted: set[int]) -> tuple[Any, int]:
    made, device = session(tiny, tmp_path, onnx=tiny.onnx), Counting()
    artifact = device.convert(made.subject.exported(device.card, tmp_path, 4), 4, "fp32")
    plan = Plan(made.card, made.dataset, made.dataset.image_ids, 4, wanted)
    return plan.run(device, artifact, shelf_, None), device.batches


def test_only_batches_that_are_not_stored_are_run_and_all_comes_out_the_same(tiny: TinySetup, tmp_path: Path) -> None:
    ids = list(tiny.dataset.image_ids)
    right, batches = run(tiny, tmp_path, None, {ids[0], ids[5]})
    assert batches == 3
    one = shelf(tmp_path / "store")
    first, batches = run(tiny, tmp_path, one, {ids[0], ids[5]})
    assert (batches, first.stored) == (3, None)
    [lost, *_] = sorted((tmp_path / "store").rglob("*.npz"))
    lost.unlink()
    second, batches = run(tiny, tmp_path, one, {ids[0], ids[5]})
    assert batches == 1
    assert second.stored.images in (7, 8)
    assert second.timing.images == 11 - second.stored.images
    third, batches = run(tiny, tmp_path, one, {ids[0], ids[5]})
    assert (batches, third.timing, third.stored.images) == (0, None, 11)
    for found in (first, second, third):
        assert list(found.results) == ids
        assert list(right.heads) == sorted(found.heads)
        for image_id in ids:
            for name in ("boxes", "scores", "classes"):
                ours, theirs = getattr(found.results[image_id], name), getattr(right.results[image_id], name)
                assert (ours.dtype, ours.tolist()) == (theirs.dtype, theirs.tolist())
        for image_id, heads in right.heads.items():
            assert all(np.array_equal(heads[name], found.heads[image_id][name]) for name in heads)


def test_batch_without_heads_that_are_wanted_now_is_run_again(tiny: TinySetup, tmp_path: Path) -> None:
    one, ids = shelf(tmp_path / "store"), list(tiny.dataset.image_ids)
    run(tiny, tmp_path, one, set())
    found, batches = run(tiny, tmp_path, one, {ids[5]})
    assert batches == 1
    assert list(found.heads) == [ids[5]]


def test_detections_cross_to_other_processes_with_what_was_stored(tiny: TinySetup, tmp_path: Path) -> None:
    found, _ = run(tiny, tmp_path, shelf(tmp_path / "store"), {tiny.dataset.image_ids[0]})
    found.stored = Stored(images=3, since="2026-11-27T10:00:00+00:00")
    found.save(tmp_path / "detections-1.npz")
    read = load_detected(tmp_path / "detections-1.npz", None)
    assert (read.stored, list(read.results), list(read.heads)) == (found.stored, list(found.results), list(found.heads))
