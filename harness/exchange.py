"""Folders that one host writes and another reads: the inputs before a device, the heads behind it.

One file an image, named after the image (``000000000139.jpg`` gives ``000000000139.bin`` and ``.npz``), and a
``manifest.json`` that says what the files hold and where they come from. A folder appears when it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.dataset import Dataset, first_few
from harness.decode import NonFiniteHeadError, decode, to_image_space
from harness.devices.base import Artifact, Device
from harness.errors import HarnessError
from harness.files import whole_folder
from harness.heads import read_heads
from harness.pipeline import Progress, batches
from harness.preprocess import place
from harness.results import Results
from harness.types import Heads, Placement

MANIFEST = "manifest.json"
SCHEMA = 1


def file_stems(dataset: Dataset) -> dict[int, str]:
    """What the files of each image are named after, by image id.

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
        _write_manifest(partial, {"model": card.name, "input": described, "images": entries})


def write_raw(path: Path, array: NDArray[np.generic]) -> None:
    """Write the values of a C-contiguous array as they lie in memory, without a copy."""
    path.write_bytes(array.data)


def write_heads(
    device: Device,
    artifact: Artifact,
    card: ModelCard,
    dataset: Dataset,
    batch_size: int,
    folder: Path,
    *,
    sha256: str,
    progress: Progress | None = None,
) -> None:
    """Run every image and write its heads: arrays hm, wh, reg (channels, h, w) in the dtype that the device gave.

    Args:
        device: Where to run.
        artifact: What `device.convert` made.
        card: The contract of the model.
        dataset: The images.
        batch_size: Images given to the device at a time.
        folder: What to write.
        sha256: Of the weights or the ONNX, for the manifest.
        progress: Told after every batch.

    Raises:
        HarnessError: An image cannot be read, two share a stem, or `folder` is in use or cannot be written.
        DeviceOutputError: The device returns other tensors than the card promises.
    """
    stems, entries = file_stems(dataset), []
    with whole_folder(folder) as partial:
        for batch in batches(card, dataset, batch_size):
            heads = read_heads(card, device.run(artifact, batch.images), len(batch.images)).named()
            for slot, image_id in enumerate(batch.image_ids):
                name = f"{stems[image_id]}.npz"
                arrays: dict[str, Any] = {head: values[slot] for head, values in heads.items()}
                np.savez(partial / name, **arrays)
                entries.append({"image_id": image_id, "file": name})
            if progress is not None:
                progress(len(entries), len(dataset))
        described = {"name": device.card.name, "execution": device.card.execution, "executed": artifact.executed}
        model = {"model": card.name, "model_sha256": sha256}
        _write_manifest(partial, {**model, "device": described, "batch_size": batch_size, "images": entries})


def decode_folder(card: ModelCard, dataset: Dataset, folder: Path, progress: Progress | None = None) -> Results:
    """The detections of every image, from a folder with heads; a manifest is not needed, so any tool may write it.

    Raises:
        HarnessError: Images have no file, or a file is damaged or does not hold the heads of the card.
        NonFiniteHeadError: A head holds NaN or infinity; a note names the file.
    """
    files = {image_id: folder / f"{stem}.npz" for image_id, stem in file_stems(dataset).items()}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        raise HarnessError(
            f"{len(missing)} of the {len(files)} images have no heads: {first_few(missing)}",
            file=folder,
            remedy="run every image, or give the --limit that it was run with",
        )
    results = Results()
    for done, (image_id, path) in enumerate(files.items(), start=1):
        heads = read_heads_file(card, path)
        try:
            found = decode(card, heads)[0]
        except NonFiniteHeadError as error:
            error.add_note(f"in {path}")
            raise
        except HarnessError as error:
            raise HarnessError(error.cause, file=path, field=error.field, remedy=error.remedy) from error
        results.add(image_id, to_image_space(card, found, place(card, dataset.size(image_id))))
        if progress is not None:
            progress(done, len(files))
    return results


def read_heads_file(card: ModelCard, path: Path) -> Heads:
    """The heads of one image, as a batch of one.

    Raises:
        HarnessError: The file is damaged, or its arrays are not named as the card's heads.
    """
    try:
        # NumPy leaves a file open that it opened and could not read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            named = {name: saved[name][None] for name in saved.files}
    except Exception as error:  # what a damaged archive raises is not documented
        raise HarnessError(f"no readable .npz file: {error}", file=path, remedy="run this image again") from error
    if set(named) != set(card.output.heads):
        raise HarnessError(
            f"the file holds {', '.join(named) or 'nothing'}, the card has the heads {', '.join(card.output.heads)}",
            file=path,
            field="output.heads",
            remedy="name the arrays after the heads, or give the card of the model that was run",
        )
    return Heads(named["hm"], named["wh"], named.get("reg"))


def _write_manifest(folder: Path, content: Mapping[str, object]) -> None:
    (folder / MANIFEST).write_text(json.dumps({"schema": SCHEMA, **content}) + "\n", encoding="utf-8")


def _plain(placement: Placement) -> dict[str, object]:
    return {
        "forward": placement.forward.tolist(),
        "inverse": placement.inverse.tolist(),
        "image_size": list(placement.image_size),
        "input_size": list(placement.input_size),
    }
