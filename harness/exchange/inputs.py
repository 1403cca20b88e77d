"""Network inputs as files, for a host that cannot run this suite."""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.preprocess import input_shape, place
from harness.data.dataset import Dataset
from harness.errors import HarnessError
from harness.exchange.stems import file_stems, write_manifest
from harness.files import is_file, read_regular, whole_folder
from harness.run.pipeline import batches
from harness.types import Placement, Progress


def write_inputs(card: ModelCard, dataset: Dataset, folder: Path, progress: Progress | None = None) -> None:
    """Write the network input of every image: raw values, little-endian, in the card's dtype and layout.

    The manifest has for each file its image id, shape, SHA-256, and the placement as `Placement` has it.

    Raises:
        HarnessError: An image cannot be read, two share a stem, or `folder` is in use or cannot be written.
    """
    stems, entries = file_stems(dataset), []
    with whole_folder(folder) as partial, ThreadPoolExecutor(1, "hash") as pool:
        for done, batch in enumerate(batches(card, dataset, 1), start=1):
            image_id, image = batch.image_ids[0], batch.images[0]
            raw = image.astype(image.dtype.newbyteorder("<"), copy=False)
            digest = pool.submit(hashlib.sha256, raw)  # takes longer than the write beside which it runs
            name = f"{stems[image_id]}.bin"
            write_raw(partial / name, raw)
            entries.append(
                {
                    "image_id": image_id,
                    "file": name,
                    "shape": list(image.shape),
                    "sha256": digest.result().hexdigest(),
                    "placement": _plain(batch.placements[0]),
                }
            )
            if progress is not None:
                progress(done, len(dataset))
        source = card.input
        described = {"name": source.name, "dtype": source.dtype, "byte_order": "little", "layout": source.layout}
        write_manifest(partial, {"model": card.name, "input": described, "images": entries})


def read_input(card: ModelCard, dataset: Dataset, file: Path, image_id: int) -> NDArray[Any]:
    """The network input of an image, as `write_inputs` or any other tool wrote it; no manifest is needed.

    Raises:
        HarnessError: The file is missing, or has another size than the card says.
    """
    shape = input_shape(card, place(card, dataset.size(image_id)))
    dtype = np.dtype(card.input.dtype).newbyteorder("<")
    if not is_file(file):
        raise HarnessError("no such file", file=file, remedy="write the input of every image, or give fewer images")
    expected = math.prod(shape) * dtype.itemsize
    if file.stat().st_size != expected:
        raise HarnessError(
            f"{file.stat().st_size} bytes, where {shape} in {card.input.dtype} are {expected}",
            file=file,
            remedy="write the values as the card has them, without a header",
        )
    return np.frombuffer(read_regular(file, None, expected), dtype).reshape(shape).astype(card.input.dtype)


def write_raw(path: Path, array: NDArray[np.generic]) -> None:
    """Write the values of a C-contiguous array as they lie in memory, without a copy."""
    path.write_bytes(array.data)


def _plain(placement: Placement) -> dict[str, object]:
    return {
        "forward": placement.forward.tolist(),
        "inverse": placement.inverse.tolist(),
        "image_size": list(placement.image_size),
        "input_size": list(placement.input_size),
    }
