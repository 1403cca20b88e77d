"""Images in, detections out: reading, preprocessing and decoding run in threads beside the device."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from harness.cards import AnyCard
from harness.data.dataset import Dataset
from harness.data.detections import Results
from harness.devices.artifact import Artifact
from harness.devices.base import Device, run_batch
from harness.run.family import family_of
from harness.run.speed import Timing
from harness.types import Batch, Detections, Heads, Outputs, Progress

LOOK_AHEAD = 2
"""Batches that are prepared before the device asks for them: what bounds the memory."""

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def chunks(ids: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Divide images into those of each batch, in order; the last may have fewer."""
    # itertools.batched came with Python 3.12.
    remaining = iter(ids)
    while chunk := tuple(itertools.islice(remaining, size)):
        yield chunk


def batches(card: AnyCard, dataset: Dataset, batch_size: int, image_ids: Sequence[int] = ()) -> Iterator[Batch]:
    """Read and preprocess the images ahead in threads; the last batch is padded with empty slots.

    Args:
        card: The contract of the model.
        dataset: Where the images are.
        batch_size: Slots of each batch.
        image_ids: The images that are wanted; all where none are named.
    """

    def prepare(chunk: tuple[int, ...]) -> Batch:
        return family_of(card).make_batch(card, [(id_, dataset.read_image(id_)) for id_ in chunk], slots=batch_size)

    return _in_threads(prepare, chunks(image_ids or dataset.image_ids, batch_size), LOOK_AHEAD)


def _in_threads(function: Callable[[_Item], _Made], items: Iterator[_Item], threads: int) -> Iterator[_Made]:
    """Apply a function to each item, results in order; each thread works on one item ahead of what is asked for."""
    waiting: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in itertools.islice(items, threads):
                waiting.append(pool.submit(function, item))
            while waiting:
                made = waiting.popleft().result()
                for item in itertools.islice(items, 1):
                    waiting.append(pool.submit(function, item))
                yield made
        finally:
            pool.shutdown(cancel_futures=True)


def run_batches(
    device: Device, artifact: Artifact, prepared: Iterator[Batch], at_once: int = 1
) -> Iterator[tuple[Batch, Outputs, float]]:
    """Each batch with its outputs and the seconds that the device took, in order.

    Args:
        device: Where to run.
        artifact: What `device.convert` made.
        prepared: The batches.
        at_once: Batches that the device works on at the same time. Of more than one the results come sooner where the
            device leaves processors idle, and the seconds say nothing.
    """

    def run(batch: Batch) -> tuple[Batch, Outputs, float]:
        before = time.perf_counter()
        outputs = run_batch(device, artifact, batch)
        return batch, outputs, time.perf_counter() - before

    return map(run, prepared) if at_once == 1 else _in_threads(run, prepared, at_once)


def _beside(
    ran: Iterator[tuple[Batch, Outputs, float]], finish: Callable[[Batch, Outputs], _Made]
) -> Iterator[tuple[Batch, float, _Made]]:
    """Finish each batch while the next one runs; the batch after that waits for it."""
    waiting: tuple[Batch, float, Future[_Made]] | None = None
    with ThreadPoolExecutor(1, "decode") as pool:
        for batch, outputs, took in ran:
            if waiting is not None:
                yield *waiting[:2], waiting[2].result()
            waiting = batch, took, pool.submit(finish, batch, outputs)
        if waiting is not None:
            yield *waiting[:2], waiting[2].result()


Take = Callable[[Batch, Heads, Sequence[Detections]], None]
"""Given a batch with its heads, and the detections of each of its images in image pixels."""


def detect(
    device: Device,
    artifact: Artifact,
    card: AnyCard,
    dataset: Dataset,
    batch_size: int,
    progress: Progress | None = None,
    at_once: int = 1,
    take: Take | None = None,
    image_ids: Sequence[int] = (),
) -> tuple[Results, Timing]:
    """Run a data set through a device.

    While the device works on a batch, that before it is decoded and taken, and none that is older waits for that.

    Args:
        device: Where to run.
        artifact: What `device.convert` made.
        card: The contract of the model.
        dataset: The images.
        batch_size: Images given to the device at a time.
        progress: Told after every batch.
        at_once: Batches that the device works on at the same time, see `run_batches`; each is taken when it is done.
        take: Given each batch with what came of it.
        image_ids: The images that are wanted; all where none are named.

    Returns:
        Detections of every image in image pixels, and the times.

    Raises:
        HarnessError: An image cannot be read.
        DeviceOutputError: The device returns other tensors than the card promises.
        NonFiniteHeadError: The device returns NaN or infinity.
    """
    results, family, count = Results(), family_of(card), len(image_ids) or len(dataset)
    latency: list[float] = []

    def finish(batch: Batch, outputs: Outputs) -> list[Detections]:
        heads = family.read_heads(card, outputs, len(batch.images))
        decoded = zip(batch.placements, family.decode(card, heads), strict=False)
        placed = [family.to_image_space(card, found, placement) for placement, found in decoded]
        if take is not None:
            take(batch, heads, placed)
        return placed

    def whole(batch: Batch) -> tuple[Batch, float, list[Detections]]:
        [(_, outputs, took)] = run_batches(device, artifact, iter([batch]))
        return batch, took, finish(batch, outputs)

    start = time.perf_counter()
    prepared = batches(card, dataset, batch_size, image_ids)
    one_by_one = _beside(run_batches(device, artifact, prepared), finish)
    for batch, took, placed in one_by_one if at_once == 1 else _in_threads(whole, prepared, at_once):
        latency.append(took)
        for image_id, found in zip(batch.image_ids, placed, strict=True):
            results.add(image_id, found)
        if progress is not None:
            progress(min(len(latency) * batch_size, count), count)
    seconds = time.perf_counter() - start
    steady = latency[1:] or latency
    return results, Timing(len(results), seconds, sum(latency), tuple(1000 * value for value in steady))
