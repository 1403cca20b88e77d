"""Detections of every image, with the heads of some, as one run gives them or the store has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import AnyCard
from harness.data.dataset import Dataset
from harness.data.detections import Results, load_results, save_results
from harness.devices.artifact import Artifact
from harness.devices.base import Device
from harness.files import whole_file
from harness.report.records import Stored
from harness.run.pipeline import chunks, detect
from harness.run.speed import Timing
from harness.run.store import Arrays, Entry, Shelf
from harness.types import Batch, Detections, Heads, Progress

HEAD = "head"


@dataclass(slots=True)
class Detected:
    """Results of a run over images.

    Attributes:
        results: Detections in image pixels, in the order of the images.
        heads: (1, channels, h, w) of the images that were wanted, by their ids.
        timing: Of what ran in this process; None where nothing did.
        stored: Images that the store had; None where it had none.
    """

    results: Results
    heads: dict[int, Heads] = field(default_factory=dict)
    timing: Timing | None = None
    stored: Stored | None = None

    def save(self, path: Path) -> None:
        """Write it for the other processes of the run; the detections last, whose file says that all is there."""
        arrays: dict[str, Any] = {
            f"{image_id} {name}": head for image_id, heads in self.heads.items() for name, head in heads.items()
        }
        with whole_file(_heads(path)) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)
        if self.stored is not None:
            with whole_file(_stored(path)) as partial:
                partial.write_text(self.stored.model_dump_json(), encoding="utf-8")
        save_results(self.results, path)


def load_detected(path: Path, timing: Timing | None) -> Detected:
    """Read what `Detected.save` wrote.

    Args:
        path: As given to it.
        timing: Of this process, which is not written.
    """
    found: dict[int, dict[str, NDArray[np.floating]]] = {}
    with np.load(_heads(path), allow_pickle=False) as saved:
        for key in saved.files:
            image_id, _, name = key.partition(" ")
            found.setdefault(int(image_id), {})[name] = saved[key]
    note = _stored(path)
    stored = Stored.model_validate_json(note.read_bytes()) if note.exists() else None
    return Detected(load_results(path), dict(found), timing, stored)


@dataclass(frozen=True, slots=True)
class Plan:
    """A run of a device over images.

    Attributes:
        card: The contract of the model.
        dataset: Where the images are.
        image_ids: The images, in order.
        batch_size: Images given to the device at a time.
        wanted: Images of which the heads are kept.
        at_once: Batches that the device works on at the same time.
    """

    card: AnyCard
    dataset: Dataset
    image_ids: Sequence[int]
    batch_size: int
    wanted: Collection[int]
    at_once: int = 1

    def run(self, device: Device, artifact: Artifact, shelf: Shelf | None, progress: Progress | None) -> Detected:
        """Run the batches that the store does not have, and store each of them.

        The batches have the images that they would have if all were run.

        Args:
            device: Where to run.
            artifact: What `device.convert` made.
            shelf: The store's place of these outputs; None where nothing is stored.
            progress: Told after every batch that is run.

        Raises:
            HarnessError: See `detect`, which this passes on.
        """
        done, made = dict[int, Detections](), list[str]()
        kept = dict[int, Heads]()
        for chunk in chunks(self.image_ids, self.batch_size):
            entry = None if shelf is None else shelf.load(self._hashes(chunk))
            if entry is not None and self._take(entry, chunk, done, kept):
                made.append(entry.made)
        lacking = [image_id for image_id in self.image_ids if image_id not in done]
        stored = Stored(images=len(done), since=min(made)) if made else None

        def take(batch: Batch, heads: Heads, placed: Sequence[Detections]) -> None:
            some: dict[int, Heads] = {
                # A device may use its memory again.
                slot: {name: np.array(values[slot : slot + 1]) for name, values in heads.items()}
                for slot, image_id in enumerate(batch.image_ids)
                if image_id in self.wanted
            }
            kept.update({batch.image_ids[slot]: own for slot, own in some.items()})
            if shelf is not None:
                shelf.save(self._hashes(batch.image_ids), _arrays(placed, some))

        timing = None
        if lacking:
            run = (device, artifact, self.card, self.dataset, self.batch_size, progress, self.at_once, take)
            ran, timing = detect(*run, image_ids=lacking)
            done |= ran
        results = Results()
        for image_id in self.image_ids:
            results.add(image_id, done[image_id])
        return Detected(results, kept, timing, stored)

    def _hashes(self, chunk: Sequence[int]) -> list[str]:
        return [self.dataset.image_sha256(image_id) for image_id in chunk]

    def _take(self, entry: Entry, chunk: Sequence[int], done: dict[int, Detections], kept: dict[int, Heads]) -> bool:
        """Take over an entry; False where it is none of these images, or lacks heads that are wanted now."""
        own: dict[int, dict[str, NDArray[Any]]] = {}
        for name, array in entry.arrays.items():
            kind, _, rest = name.partition(" ")
            if kind == HEAD:
                slot, _, head = rest.partition(" ")
                own.setdefault(chunk[int(slot)], {})[head] = array
        if any(image_id not in own for image_id in chunk if image_id in self.wanted):
            return False
        found = _detections(entry.arrays)
        if found is None or len(found) != len(chunk):
            return False
        done.update(zip(chunk, found, strict=True))
        kept.update({image_id: heads for image_id, heads in own.items() if image_id in self.wanted})
        return True


def _arrays(placed: Sequence[Detections], heads: dict[int, Heads]) -> dict[str, NDArray[Any]]:
    """The detections of the images of a batch, in the types of `Results`, and heads by slot, as an entry has them."""
    return {
        "counts": np.array([len(found) for found in placed], np.int64),
        "boxes": np.concatenate([found.boxes for found in placed]).astype(np.float32).reshape(-1, 4),
        "scores": np.concatenate([found.scores for found in placed]).astype(np.float32),
        "classes": np.concatenate([found.classes for found in placed]).astype(np.int64),
        **{f"{HEAD} {slot} {name}": head for slot, own in heads.items() for name, head in own.items()},
    }


def _detections(arrays: Arrays) -> list[Detections] | None:
    """Detections of each image of an entry; None where the arrays do not fit together."""
    named = [arrays.get(name) for name in ("counts", "boxes", "scores", "classes")]
    if any(array is None for array in named):
        return None
    counts, *rows = (np.asarray(array) for array in named)
    if counts.ndim != 1 or any(len(array) != counts.sum() for array in rows) or rows[0].shape[1:] != (4,):
        return None
    return [Detections(*one) for one in zip(*(np.split(array, np.cumsum(counts)[:-1]) for array in rows), strict=True)]


def _heads(path: Path) -> Path:
    return path.with_name(path.name.replace("detections-", "heads-", 1))


def _stored(path: Path) -> Path:
    return path.with_suffix(".stored.json")
