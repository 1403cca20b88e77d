"""An output is taken from the store where it may be, and a damaged one is made anew."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.support.full_disk import file_size_limit
from harness.run.store import Policy, Shelf, Store

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
    of_speed = Store(folder=first.folder, asked={"tests": ["perf"]})
    assert of_speed.begin(asked) is None
    of_speed.finish()
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
