"""An output is taken from the store where everything that it depends on is the same, and nowhere else."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conformance.support.full_disk import file_size_limit
from conformance.support.tiny import TinySetup
from harness.devices.artifact import Artifact
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.devices.outputs import OutputsDevice
from harness.report.records import Stored
from harness.run import ingredients
from harness.run.detected import Plan
from harness.run.ingredients import declared, device_code, distribution_sha256, surroundings
from harness.run.options import parse_options
from harness.run.pruning import DAY_S, prune_store, stored_size
from harness.run.session import Session
from harness.run.shelves import Shelves
from harness.run.store import Policy, Shelf, Store

pytestmark = pytest.mark.usefixtures("one_thread")
ARRAYS = {"boxes": np.arange(8, dtype=np.float32).reshape(2, 4), "file": np.zeros(0, np.int64)}


def store(folder: Path, run: str = "first", **policy: bool) -> Store:
    return Store(Policy(**policy), folder, run)


def shelf(folder: Path, *, judged: bool = False, run: str = "first", **policy: bool) -> Shelf:
    return store(folder, run, **policy).shelf({"device": "chip"}, judged=judged)


def test_what_was_stored_is_what_comes_back(tmp_path: Path) -> None:
    shelf(tmp_path).save(["a", "b"], ARRAYS)
    entry = shelf(tmp_path, run="second").load(["a", "b"])
    assert entry is not None
    assert {name: (array.dtype, array.tolist()) for name, array in entry.arrays.items()} == {
        name: (array.dtype, array.tolist()) for name, array in ARRAYS.items()
    }


@pytest.mark.parametrize("of", [["b", "a"], ["a"], ["ab"], ["a", "b", ""]])
def test_other_images_or_another_order_have_other_outputs(of: list[str], tmp_path: Path) -> None:
    shelf(tmp_path).save(["a", "b"], ARRAYS)
    assert shelf(tmp_path).load(of) is None


def test_judged_device_is_served_to_its_own_run_and_where_it_is_asked_for(tmp_path: Path) -> None:
    shelf(tmp_path, judged=True).save(["a"], ARRAYS)
    assert shelf(tmp_path, judged=True).load(["a"]) is not None
    assert shelf(tmp_path, judged=True, run="second").load(["a"]) is None
    assert shelf(tmp_path, judged=True, run="second", reuse=True).load(["a"]) is not None
    assert shelf(tmp_path, judged=True, fresh=True).load(["a"]) is None
    assert shelf(tmp_path, fresh=True).load(["a"]) is None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_entry_is_none_and_is_said(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("store")
    one = shelf(folder)
    one.save(["a"], ARRAYS)
    [file] = folder.rglob("*.npz")
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    entry = one.load(["a"])
    # A bit of the file that is not of the arrays, such as a time of the archive, changes nothing.
    assert entry is None or all(np.array_equal(entry.arrays[name], array) for name, array in ARRAYS.items())


def test_entry_of_another_place_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, other = shelf(tmp_path), store(tmp_path).shelf({"device": "another"}, judged=False)
    one.save(["a"], ARRAYS)
    [file] = tmp_path.rglob("*.npz")
    moved = other.folder / file.relative_to(one.folder)
    moved.parent.mkdir(parents=True)
    moved.write_bytes(file.read_bytes())
    assert other.load(["a"]) is None
    assert "damaged (it is of something else), and is made anew" in caplog.text


def test_full_disk_stores_nothing_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = shelf(tmp_path)
    with file_size_limit(100):
        one.save(["a"], ARRAYS)
        one.save(["b"], ARRAYS)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: File too large: nothing more is stored, and a run that is killed begins anew"
    ]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ingredients.json"]


def test_run_that_did_not_end_is_gone_on_with_and_one_that_did_is_not(tmp_path: Path) -> None:
    asked = {"devices": ["chip"]}
    first = store(tmp_path)
    assert first.begin(asked) is None
    beside = store(tmp_path, "beside")
    assert (beside.begin(asked), beside.run) == (None, "beside")  # the first is under way
    beside.close()
    first.close()  # as the end of its process does
    other = store(tmp_path, "other")
    assert other.begin({"devices": ["another"]}) is None
    second = store(tmp_path, "second")
    assert second.begin(asked) is not None
    assert second.run == "first"
    second.finish()
    second.close()
    third = store(tmp_path, "third")
    assert (third.begin(asked), third.run) == (None, "third")
    third.close()
    fresh = store(tmp_path, "fresh", fresh=True)
    assert (fresh.begin(asked), fresh.run) == (None, "fresh")


def session(tiny: TinySetup, folder: Path, **given: Any) -> Session:  # noqa: ANN401
    options = parse_options(model=str(tiny.card), weights=tiny.weights, coco=tiny.coco, batch_sizes="4", **given)
    return Session(options, folder, lambda text: None)


Change = Callable[[pytest.MonkeyPatch, dict[str, Any]], object]


def _text(file: str, text: str) -> Change:
    """Another content of a file that the ingredients are read from."""
    real = ingredients._text
    return lambda patch, given: patch.setattr(ingredients, "_text", lambda p: text if str(p) == file else real(p))


CHANGES: dict[str, Change] = {
    "code of the suite": lambda patch, given: patch.setattr(ingredients, "own_code", lambda: "another"),
    "version of a package": lambda patch, given: patch.setattr(ingredients, "installed", lambda: {"numpy": "0"}),
    "instruction sets": lambda patch, given: patch.setattr(ingredients, "processor", lambda: ["another"]),
    "driver": _text(ingredients.DRIVERS[0], "another"),
    "cores": lambda patch, given: patch.setattr(ingredients, "_cores", lambda: 77),
    "threads": lambda patch, given: patch.setattr(torch, "get_num_threads", lambda: 77),
    "environment variable": lambda patch, given: patch.setitem(os.environ, "OMP_SCHEDULE", "dynamic"),
    "executed": lambda patch, given: given.update(artifact=Artifact(None, (), (), None, {"provider": "another"})),
    "batch size": lambda patch, given: given.update(batch_size=5),
    "precision": lambda patch, given: given.update(precision="bf16"),
    "reading": lambda patch, given: given.update(reading="another"),
    "device card": lambda patch, given: given.update(
        device=_carded(given["device"], given["device"].card.model_copy(update={"chips": 2}))
    ),
    "weights": lambda patch, given: given.update(subject=replace(given["subject"], sha256="another")),
    "model card": lambda patch, given: given.update(
        options=replace(given["options"], card=given["options"].card.model_copy(update={"description": "another"}))
    ),
    "plug-in of the user": lambda patch, given: given.update(extra=lambda: {"plugins": {"conftest.py": "hash"}}),
}


def _carded(device: OnnxRuntimeDevice, card: Any) -> OnnxRuntimeDevice:  # noqa: ANN401
    device.card = card
    return device


def place(made: Session, change: Change, patch: pytest.MonkeyPatch, folder: Path) -> Path:
    given: dict[str, Any] = {
        "device": OnnxRuntimeDevice(),
        "artifact": Artifact(None, (), (), None, {"provider": "CPU"}),
        "batch_size": 4,
        "precision": "fp32",
        "reading": "",
        "subject": made.subject,
        "options": made.options,
        "extra": dict,
    }
    with patch.context() as changed:
        change(changed, given)
        options, subject, extra = (given.pop(name) for name in ("options", "subject", "extra"))
        found = Shelves(Store(folder=folder, extra=extra), options, subject, lambda: made.dataset).place(**given)
    assert found is not None
    return found.folder


@pytest.mark.parametrize("name", CHANGES)
def test_every_ingredient_counts(name: str, tiny: TinySetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = session(tiny, tmp_path)
    before = place(made, lambda patch, given: None, monkeypatch, tmp_path)
    assert place(made, lambda patch, given: None, monkeypatch, tmp_path) == before
    assert place(made, CHANGES[name], monkeypatch, tmp_path) != before


def test_int8_depends_on_the_images_that_its_ranges_come_from(tiny: TinySetup, tmp_path: Path) -> None:
    made, artifact = session(tiny, tmp_path), Artifact(None, (), (), None)

    def folder(images: int, count: int) -> Path:
        options = replace(made.options, calibration_images=count)
        shelves = Shelves(Store(folder=tmp_path), options, made.subject, lambda: made.dataset.first(images))
        found = shelves.place(OnnxRuntimeDevice(), artifact, 4, "int8")
        assert found is not None
        return found.folder

    assert len({folder(11, 8), folder(10, 8), folder(11, 9)}) == 3


def test_every_file_of_a_package_and_of_an_editable_tree_counts(tmp_path: Path) -> None:
    info, code = tmp_path / "chip-1.dist-info", tmp_path / "chip.py"
    info.mkdir()
    code.write_text("a = 1")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chip\nVersion: 1\n")
    found = PathDistribution(info)
    assert distribution_sha256(found) is None  # its files are not known
    (info / "RECORD").write_text("chip.py,,\n")
    hashes = [distribution_sha256(found)]
    code.write_text("a = 2")
    hashes.append(distribution_sha256(found))
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "kernel.so").write_bytes(b"1")
    (info / "direct_url.json").write_text(json.dumps({"url": tree.as_uri(), "dir_info": {"editable": True}}))
    hashes.append(distribution_sha256(found))
    (tree / "deep" / "kernel.so").write_bytes(b"2")
    hashes.append(distribution_sha256(found))
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "x.pyc").write_bytes(b"3")
    hashes.append(distribution_sha256(found))
    assert None not in hashes
    assert len(set(hashes)) == 4
    assert hashes[-1] == hashes[-2]


def test_devices_made_in_code_and_folders_of_outputs_are_not_stored(tiny: TinySetup, tmp_path: Path) -> None:
    device = OnnxRuntimeDevice()
    assert device_code("onnxruntime", device) == "own"
    assert device_code("made in code", device) is None
    folder = OutputsDevice(tmp_path, None, tiny.model_card, lambda: cast(Any, None))
    assert device_code("onnxruntime", folder) is None


def test_declared_variables_are_those_of_the_names() -> None:
    given = {"OMP_A": "1", "OMP": "2", "XOMP_B": "3", "CHIP": "4", "CHIP_X": "5"}
    assert declared(["OMP_*", "CHIP"], given) == {"OMP_A": "1", "CHIP": "4"}
    card = OnnxRuntimeDevice().card
    assert "CHIP" not in cast(Any, surroundings(card, given)["variables"])
    told = card.model_copy(update={"environment": ("CHIP",)})
    assert cast(Any, surroundings(told, given)["variables"])["CHIP"] == "4"


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
    from harness.run.detected import load_detected

    found, _ = run(tiny, tmp_path, shelf(tmp_path / "store"), {tiny.dataset.image_ids[0]})
    found.stored = Stored(images=3, since="2026-11-27T10:00:00+00:00")
    found.save(tmp_path / "detections-1.npz")
    read = load_detected(tmp_path / "detections-1.npz", None)
    assert (read.stored, list(read.results), list(read.heads)) == (found.stored, list(found.results), list(found.heads))


@pytest.mark.parametrize(("days", "gigabytes", "left"), [(5, 1, 2), (50, 1, 3), (50, 25e-9, 2), (0, 0, 0)])
def test_pruning_removes_what_is_old_and_then_the_oldest(
    days: float, gigabytes: float, left: int, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    for age in (1, 3, 10):
        one = tmp_path / f"{age:032x}"
        one.mkdir()
        (one / "a.npz").write_bytes(b"0123456789")
        changed = (tmp_path / "runs").stat().st_mtime - age * DAY_S
        os.utime(one / "a.npz", (changed, changed))
    assert stored_size(tmp_path) == (3, 30)
    assert prune_store(tmp_path, days, gigabytes) == (3 - left, 10 * (3 - left))
    assert stored_size(tmp_path) == (left, 10 * left)
    assert (tmp_path / "runs").is_dir()
