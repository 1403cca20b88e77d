"""Heads of a device beside those that they should equal: once, in a batch, in the run over all images, called again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.checks.heads import HeadPair
from harness.checks.limits import moved
from harness.devices.base import run_batch
from harness.run.family import family_of
from harness.run.pipeline import batches
from harness.run.reference import split_samples
from harness.run.session import Session
from harness.types import Heads

LEAST_CALLS = 24
"""Of a device at a batch size: what goes wrong after some calls (a buffer, a counter, heat) is not seen in fewer."""
EXECUTED = ("silicon", "stand-in")
"""Executions of which a call takes no seconds, as that of a simulator does."""


def pairs(session: Session, name: str, batch_size: int) -> list[HeadPair]:
    """Heads of a device beside the golden heads; the reference itself is held to its second opinion."""
    return _paired(session, batch_size, session.heads(name, batch_size), _golden(session, name, batch_size))


def pairs_in_batch(session: Session, name: str, batch_size: int) -> list[HeadPair]:
    """Heads of each sample in a batch beside those of the sample alone, on the same device.

    Where no tolerance can be derived, a batch may add at most what the precision itself does to the sample alone.
    """
    together, alone = session.heads(name, batch_size), session.heads(name, 1)
    allowed: Sequence[Mapping[str, float]] = session.samples.allowed
    if not session.tolerance.derivable:
        allowed = [moved(own, golden) for own, golden in zip(alone, session.samples.heads, strict=True)]
    return _paired(session, batch_size, together, alone, allowed)


def pairs_in_run(session: Session, name: str, batch_size: int) -> list[HeadPair]:
    """Heads of the sample images as they came in the run over all images, in its first, its last and other batches.

    Where no tolerance can be derived, they are held to those that the device gave of the same image before.
    """
    kept, part = session.kept_heads(name, batch_size), set(session.part_ids)
    places = [place for place, image_id in enumerate(session.sample_ids) if image_id in part]
    heads = [kept[session.sample_ids[place]] for place in places]
    found = _held_to_earlier(session, name, batch_size, heads, places)
    return [replace(pair, label=f"{pair.label}, in the run over all images") for pair in found]


def pairs_again(session: Session, name: str, batch_size: int) -> Iterator[HeadPair]:
    """Heads of the first batch, run again and again, where the images are too few for `LEAST_CALLS` of the device.

    Not of simulated and emulated devices, nor of files, nor of the reference. The number of calls does not depend on
    which process has run the images; of a run in shards the last one makes them.
    """
    device, first, shard = session.device(name), session.sample_ids[:batch_size], session.options.shard
    executed = device.card.execution in EXECUTED and not session.is_reference(name, batch_size)
    executed = executed and (shard is None or shard.is_last)
    if not executed or math.ceil(len(session.dataset) / batch_size) >= LEAST_CALLS:
        return
    artifact = session.artifact(name, batch_size)
    [batch] = batches(session.card, session.dataset, batch_size, first)
    for call in range(math.ceil(len(session.sample_ids) / batch_size) + 1, LEAST_CALLS + 1):
        outputs = run_batch(device, artifact, batch)
        heads = split_samples(family_of(session.card).read_heads(session.card, outputs, len(batch.images)))
        for pair in _held_to_earlier(session, name, batch_size, heads[: len(first)], range(len(first))):
            yield replace(pair, label=f"{pair.label}, call {call}")


def _held_to_earlier(
    session: Session, name: str, batch_size: int, heads: list[Heads], places: Sequence[int]
) -> list[HeadPair]:
    """Heads of some sample images from a later call, beside the golden ones or, without a tolerance, the device's.

    What the precision does to an image is then what a later call may differ by.
    """
    golden = _golden(session, name, batch_size)
    if session.tolerance.derivable:
        return _paired(session, batch_size, heads, golden, places=places)
    own = session.heads(name, batch_size)
    allowed = [moved(one, right) for one, right in zip(own, golden, strict=True)]
    return _paired(session, batch_size, heads, own, allowed, places)


def _golden(session: Session, name: str, batch_size: int) -> list[Heads]:
    return session.samples.second_opinion if session.is_reference(name, batch_size) else session.samples.heads


def _paired(
    session: Session,
    batch_size: int,
    heads: list[Heads],
    golden: list[Heads],
    allowed: Sequence[Mapping[str, float]] | None = None,
    places: Sequence[int] | None = None,
) -> list[HeadPair]:
    """Pairs of the sample images that have these places, of all where none are named."""
    limits = session.samples.allowed if allowed is None else allowed
    every = range(len(session.sample_ids)) if places is None else places
    return [
        HeadPair(f"image {session.sample_ids[i]}, sample {i % batch_size}", own, golden[i], limits[i])
        for i, own in zip(every, heads, strict=True)
    ]
