"""Folders of outputs in the form of Ascend's tools, written without code of the readers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.support.heads import make_heads
from conformance.support.small_model import GRID, small_card
from harness.cards import ModelCard
from harness.data.dataset import Category, Dataset, ImageEntry, Instances
from harness.data.detections import Results
from harness.exchange.output_folder import detect_outputs, open_outputs
from harness.types import Heads

Array = NDArray[np.floating]
CARD: ModelCard = small_card()
STEMS = ("000000000139", "000000000285", "000000000632", "000000000724", "000000000776")
SIZE = (640, 480)


def dataset(folder: Path, stems: Sequence[str] = STEMS) -> Dataset:
    """Images of these stems, with ids from 139 up, and files that differ."""
    (folder / "images").mkdir(exist_ok=True)
    entries = []
    for image_id, stem in enumerate(stems, start=139):
        (folder / "images" / f"{stem}.jpg").write_text(stem)
        entries.append(ImageEntry(image_id, f"{stem}.jpg", *SIZE))
    return Dataset(folder / "images", Instances(tuple(entries), (), (Category(1, "a"),)))


def heads_of(seed: int, card: ModelCard = CARD) -> Heads:
    """Make heads like those of a trained network: few peaks, boxes of several cells, centres within their cells."""
    random = np.random.default_rng(seed)
    classes = len(card.category_ids)
    hm = random.normal(-6, 0.5, (classes, *GRID)).astype(np.float32)
    places = [random.integers(0, size, 40) for size in (classes, *GRID)]
    hm[tuple(places)] += random.uniform(4, 8, 40).astype(np.float32)
    wh = random.uniform(2, 12, (2, *GRID)).astype(np.float32)
    return make_heads(hm[None], wh[None], random.random((1, 2, *GRID), np.float32))


def write_bin(array: Array, path: Path) -> None:
    """Write the values alone, little-endian on every machine that these tests run on."""
    path.write_bytes(np.ascontiguousarray(array).tobytes())


def write_npy(array: Array, path: Path) -> None:
    """Write them with shape and dtype, the batch dimension 1."""
    np.save(path, array)


def write_txt(array: Array, path: Path) -> None:
    """Write one row for each vector of the last axis, six decimals."""
    rows = array.reshape(-1, array.shape[-1])
    path.write_text("\n".join(" ".join(f"{value:f}" for value in row) for row in rows) + "\n")


WRITERS: Mapping[str, Callable[[Array, Path], None]] = {"bin": write_bin, "npy": write_npy, "txt": write_txt}


def write_image(
    folder: Path,
    stem: str,
    heads: Heads,
    *,
    kind: str = "bin",
    order: Sequence[str] = ("hm", "wh", "reg"),
    first: int = 0,
    mark: str = "",
    dtype: str = "float32",
) -> None:
    """Write the files of one image, such as ``STEM_0.bin``."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, head in enumerate(order, start=first):
        WRITERS[kind](heads[head].astype(dtype), folder / f"{stem}{mark}_{index}.{kind}")


def fill(folder: Path, **how: Any) -> Path:  # noqa: ANN401
    """Write outputs of every image, as ais_bench writes them unless said otherwise."""
    for seed, stem in enumerate(STEMS):
        write_image(folder, stem, heads_of(seed), **how)
    return folder


def detected(images: Dataset, folder: Path, card: ModelCard = CARD) -> Results:
    """Read a folder and detect."""
    return detect_outputs(open_outputs(card, images, folder))
