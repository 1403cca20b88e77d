"""Heads of some images as a device gives them in the run over all images, kept beside the detections of that run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.files import whole_file
from harness.types import Batch, Heads


class KeptHeads:
    """Keeps the heads of the images that are wanted while the others pass by.

    Args:
        wanted: Ids of the images.
    """

    def __init__(self, wanted: Collection[int]) -> None:
        self.wanted = frozenset(wanted)
        self.heads: dict[int, Heads] = {}

    def take(self, batch: Batch, heads: Heads) -> None:
        """Copy the heads of the wanted images of a batch: a device may use its memory again."""
        for slot, image_id in enumerate(batch.image_ids):
            if image_id in self.wanted:
                self.heads[image_id] = {name: np.array(values[slot : slot + 1]) for name, values in heads.items()}

    def save(self, path: Path) -> None:
        """Write them for the other processes of the run, whole or not at all."""
        arrays: dict[str, Any] = {
            f"{image_id} {name}": head for image_id, heads in self.heads.items() for name, head in heads.items()
        }
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)


def load_kept_heads(path: Path) -> dict[int, Heads]:
    """Read a file that `KeptHeads.save` wrote: heads (1, channels, h, w) by image."""
    found: dict[int, dict[str, NDArray[np.floating]]] = {}
    with np.load(path, allow_pickle=False) as saved:
        for key in saved.files:
            image_id, _, name = key.partition(" ")
            found.setdefault(int(image_id), {})[name] = saved[key]
    return dict(found)
