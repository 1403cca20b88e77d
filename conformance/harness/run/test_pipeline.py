"""Every image goes through once, in order, beside the device and not in its way, in memory that does not grow."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.cards import ModelCard, load_model_card
from harness.centernet.decode import NonFiniteHeadError, decode
from harness.centernet.heads import DeviceOutputError
from harness.data.dataset import Dataset
from harness.devices.artifact import Artifact
from harness.devices.base import Device
from harness.errors import HarnessError
from harness.run.family import FAMILIES
from harness.run.pipeline import LOOK_AHEAD, batches, detect
from harness.types import Detections, Heads, Outputs, UInt8

SIDE = 32
ARTIFACT = cast(Artifact, SimpleNamespace())


def card() -> ModelCard:
    base = load_model_card("embedded")
    raw = {"height": SIDE, "width": SIDE, "scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return base.model_copy(update={"input": base.input.model_copy(update=raw), "category_ids": (1,)})


class Images:
    """A data set whose images are of one grey level each: their own number."""

    def __init__(self, count: int) -> None:
        self.image_ids = tuple(100 + 7 * number for number in range(count))
        self.read: list[int] = []
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.image_ids)

    def read_image(self, image_id: int) -> UInt8:
        with self.lock:
            self.read.append(image_id)
        return np.full((SIDE, SIDE, 3), (image_id - 100) // 7 + 1, np.uint8)


class Reading:
    """A device that reads the grey level and answers with one box of that width; 0 is an empty slot."""

    def __init__(self, before: Callable[[int, NDArray[Any]], None] = lambda number, images: None) -> None:
        self.before = before
        self.levels: list[list[int]] = []

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        assert artifact is ARTIFACT
        self.before(len(self.levels), images)
        levels = cast(NDArray[Any], images)[:, 0, SIDE // 2, SIDE // 2]
        self.levels.append([round(level) for level in levels.tolist()])
        hm = np.full((len(images), 1, SIDE // 4, SIDE // 4), -50.0, np.float32)
        hm[:, 0, 4, 4] = 2.0
        wh = np.zeros((len(images), 2, *hm.shape[2:]), np.float32) + levels[:, None, None, None] / 4
        return {"hm": hm, "wh": wh, "reg": np.zeros_like(wh)}


def run(images: Images, device: Reading, batch_size: int) -> tuple[Any, Any, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    results, timing = detect(cast(Device, device), ARTIFACT, card(), cast(Dataset, images), batch_size, progress)
    return results, timing, told


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 19), batch_size=st.integers(1, 6))
def test_every_image_goes_through_once_and_gets_its_own_result(count: int, batch_size: int) -> None:
    images, device = Images(count), Reading()
    results, timing, told = run(images, device, batch_size)
    assert tuple(results) == images.image_ids
    widths = [round(float(found.boxes[0, 2] - found.boxes[0, 0])) for found in results.values()]
    assert widths == list(range(1, count + 1))
    assert sorted(images.read) == list(images.image_ids)
    slots = -(-count // batch_size) * batch_size
    assert [level for levels in device.levels for level in levels] == [*range(1, count + 1), *[0] * (slots - count)]
    assert {len(levels) for levels in device.levels} == {batch_size}
    assert timing.images == count
    assert told[-1] == (count, count)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


@settings(deadline=None, max_examples=20)
@given(chosen=st.lists(st.integers(0, 11), unique=True, min_size=1), batch_size=st.integers(1, 5))
def test_named_images_alone_are_read_in_the_order_given(chosen: list[int], batch_size: int) -> None:
    images = Images(12)
    ids = [images.image_ids[number] for number in chosen]
    made = list(batches(card(), cast(Dataset, images), batch_size, ids))
    assert [id_ for batch in made for id_ in batch.image_ids] == ids
    assert sorted(images.read) == sorted(ids)


def test_device_may_work_on_several_batches_at_once() -> None:
    images, together = Images(12), threading.Barrier(2, timeout=60)
    device = Reading(lambda number, images: cast(None, together.wait()))
    results, _ = detect(cast(Device, device), ARTIFACT, card(), cast(Dataset, images), 2, at_once=2)
    assert tuple(results) == images.image_ids
    widths = [round(float(found.boxes[0, 2] - found.boxes[0, 0])) for found in results.values()]
    assert widths == list(range(1, 13))


def test_speed_counts_images_and_not_slots() -> None:
    _, timing, _ = run(Images(5), Reading(lambda number, images: time.sleep(0.01)), 4)
    assert timing.images == 5
    assert timing.fps_end_to_end == 5 / timing.seconds
    assert 0.02 <= timing.device_seconds <= timing.seconds
    assert timing.device_share == timing.device_seconds / timing.seconds


def test_first_batch_warms_up_unless_it_is_the_only_one() -> None:
    def slow_at_first(number: int, images: NDArray[Any]) -> None:
        time.sleep(0.2 if number == 0 else 0)

    _, timing, _ = run(Images(9), Reading(slow_at_first), 3)
    assert len(timing.latency_ms) == 2
    assert 1000 * timing.device_seconds - sum(timing.latency_ms) >= 200
    _, timing, _ = run(Images(2), Reading(slow_at_first), 3)
    assert len(timing.latency_ms) == 1
    assert timing.latency_ms[0] >= 200


@pytest.mark.parametrize("place", [0, 3, 10])
def test_image_that_cannot_be_read_ends_the_run(place: int) -> None:
    images = Images(11)

    def refuse(image_id: int) -> UInt8:
        if image_id == images.image_ids[place]:
            raise HarnessError("not a whole image", file=f"{image_id}.jpg")
        return Images.read_image(images, image_id)

    images.read_image = refuse  # type: ignore[method-assign]
    with pytest.raises(HarnessError, match=f"{images.image_ids[place]}.jpg: not a whole image"):
        run(images, Reading(), 2)


class Spoilt(Reading):
    """Goes wrong at one batch, in one way."""

    def __init__(self, at: int, how: str) -> None:
        super().__init__()
        self.at, self.how = at, how

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        outputs = dict(super().run(artifact, images))
        if len(self.levels) - 1 == self.at:
            if self.how == "crash":
                raise RuntimeError("lost")
            if self.how == "nan":
                outputs["wh"] = outputs["wh"] * np.float32(np.nan)
            else:
                del outputs["reg"]
        return outputs


@pytest.mark.parametrize("at", [0, 2, 5])
@pytest.mark.parametrize(
    ("how", "error"), [("nan", NonFiniteHeadError), ("fewer", DeviceOutputError), ("crash", RuntimeError)]
)
def test_device_that_goes_wrong_ends_the_run(at: int, how: str, error: type[Exception]) -> None:
    device = Spoilt(at, how)
    with pytest.raises(error):
        run(Images(11), device, 2)
    assert len(device.levels) <= at + LOOK_AHEAD + 2  # it is not given all the rest before that is noticed


def test_nothing_runs_on_after_the_run() -> None:
    before = threading.active_count()
    run(Images(7), Reading(), 2)
    with pytest.raises(RuntimeError):
        run(Images(7), Spoilt(1, "crash"), 2)
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("slow", ["device", "decoding"])
def test_memory_does_not_grow_with_the_number_of_images(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of batches that wait for the device, nor of those that wait for their decoding."""
    batch_size, alive, most_alive, most_ahead = 2, set[int](), list[int](), list[int]()
    images = Images(60)

    def watch(number: int, array: NDArray[Any]) -> None:
        time.sleep(0.003 if slow == "device" else 0)
        alive.add(number)
        weakref.finalize(array, alive.discard, number)
        most_alive.append(len(alive))
        most_ahead.append(len(images.read) - batch_size * (number + 1))

    def slow_decode(card: ModelCard, heads: Heads) -> list[Detections]:
        time.sleep(0.003)
        return decode(card, heads)

    if slow == "decoding":
        monkeypatch.setitem(FAMILIES, "centernet", replace(FAMILIES["centernet"], decode=slow_decode))
    run(images, Reading(watch), batch_size)
    assert len(most_alive) == 30
    # One in the device, one being decoded, and those that wait.
    assert max(most_alive) <= LOOK_AHEAD + 2
    assert max(most_ahead) <= LOOK_AHEAD * batch_size
    if slow == "device":
        assert max(most_ahead) > 0  # reading goes on while the device is at work
