"""Heads as files, one ``.npz`` an image: written from a device, read, and decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.cards import ModelCard
from harness.centernet.decode import NonFiniteHeadError, decode, to_image_space
from harness.centernet.heads import read_heads
from harness.centernet.preprocess import place
from harness.data.dataset import Dataset, first_few
from harness.data.detections import Results
from harness.devices.artifact import Artifact
from harness.devices.base import Device
from harness.errors import HarnessError
from harness.exchange.npz import read_npz
from harness.exchange.stems import file_stems, write_manifest
from harness.files import is_file, whole_folder
from harness.run.pipeline import batches
from harness.types import Heads, Progress

HEADS_BYTES = 2**31
"""Most that the heads of one image may have, packed or unpacked."""


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
            heads = read_heads(card, device.run(artifact, batch.images), len(batch.images))
            for slot, image_id in enumerate(batch.image_ids):
                name = f"{stems[image_id]}.npz"
                arrays: dict[str, Any] = {head: values[slot] for head, values in heads.items()}
                np.savez(partial / name, **arrays)
                entries.append({"image_id": image_id, "file": name})
            if progress is not None:
                progress(len(entries), len(dataset))
        described = {"name": device.card.name, "execution": device.card.execution, "executed": artifact.executed}
        model = {"model": card.name, "model_sha256": sha256}
        write_manifest(partial, {**model, "device": described, "batch_size": batch_size, "images": entries})


def decode_folder(card: ModelCard, dataset: Dataset, folder: Path, progress: Progress | None = None) -> Results:
    """The detections of every image, from a folder with heads; a manifest is not needed, so any tool may write it.

    Raises:
        HarnessError: Images have no file, or a file is damaged or does not hold the heads of the card.
        NonFiniteHeadError: A head holds NaN or infinity; a note names the file.
    """
    files = {image_id: folder / f"{stem}.npz" for image_id, stem in file_stems(dataset).items()}
    missing = [path.name for path in files.values() if not is_file(path)]
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
            results.add(image_id, to_image_space(card, found, place(card, dataset.size(image_id))))
        except NonFiniteHeadError as error:
            error.add_note(f"in {path}")
            raise
        except HarnessError as error:
            raise HarnessError(error.cause, file=path, field=error.field, remedy=error.remedy) from error
        if progress is not None:
            progress(done, len(files))
    return results


def read_heads_file(card: ModelCard, path: Path) -> Heads:
    """The heads of one image, as a batch of one.

    Raises:
        HarnessError: The file is damaged, or its arrays are not named as the card's heads.
    """
    arrays = read_npz(path, HEADS_BYTES, remedy="run this image again")
    named = {name: array[None] for name, array in arrays.items()}
    if set(named) != set(card.output.heads):
        raise HarnessError(
            f"the file holds {', '.join(named) or 'nothing'}, the card has the heads {', '.join(card.output.heads)}",
            file=path,
            field="output.heads",
            remedy="name the arrays after the heads, or give the card of the model that was run",
        )
    return {head: named[head] for head in card.output.heads}
