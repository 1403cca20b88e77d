"""Names of the files that hosts exchange: one file an image, named after the image, and a ``manifest.json``.

``000000000139.jpg`` gives ``000000000139.bin`` and ``000000000139.npz``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath

from harness.data.dataset import Dataset, first_few
from harness.errors import HarnessError

MANIFEST = "manifest.json"
SCHEMA = 1


def file_stems(dataset: Dataset) -> dict[int, str]:
    """Stem of the files of each image, by image id.

    Raises:
        HarnessError: Two images have one stem, so that one file would replace the other.
    """
    stems = {image.id: PurePath(image.file_name).stem for image in dataset.instances.images}
    twice = [stem for stem, count in Counter(stems.values()).items() if count > 1]
    if twice:
        raise HarnessError(
            f"{len(twice)} file names differ only in folder or suffix: {first_few(twice)}",
            file=dataset.folder,
            remedy="give every image a name of its own",
        )
    return stems


def stems_cut_alike(dataset: Dataset) -> list[str]:
    """Stems that are one when cut at the first dot, as ais_bench does with the names of its results."""
    stems = file_stems(dataset).values()
    counts = Counter(stem.partition(".")[0] for stem in stems)
    return [stem for stem in stems if counts[stem.partition(".")[0]] > 1]


def write_manifest(folder: Path, content: Mapping[str, object]) -> None:
    """Write ``manifest.json``: what the files of the folder hold, and where they come from."""
    (folder / MANIFEST).write_text(json.dumps({"schema": SCHEMA, **content}) + "\n", encoding="utf-8")
