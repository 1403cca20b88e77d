"""Detections of a two-stage detector as a folder: rows in COCO's results format, and a manifest."""

from __future__ import annotations

import json
from pathlib import Path

from harness.cards import TwoStageCard
from harness.data.dataset import Dataset
from harness.data.detections import to_coco_json
from harness.devices.artifact import Artifact
from harness.devices.base import Device
from harness.exchange.stems import write_manifest
from harness.files import whole_folder
from harness.run.pipeline import detect
from harness.types import Progress

DETECTIONS = "detections.json"


def write_detections(
    device: Device,
    artifact: Artifact,
    card: TwoStageCard,
    dataset: Dataset,
    batch_size: int,
    folder: Path,
    *,
    sha256: str,
    progress: Progress | None = None,
) -> None:
    """Run every image and write its detections in image pixels.

    Args:
        device: Where to run.
        artifact: What `device.convert` made.
        card: The contract of the model.
        dataset: The images.
        batch_size: Images given to the device at a time.
        folder: What to write.
        sha256: Of the weights, for the manifest.
        progress: Told after every batch.

    Raises:
        HarnessError: An image cannot be read, or `folder` is in use or cannot be written.
        DeviceOutputError: The device returns other tensors than promised.
        NonFiniteHeadError: The device returns NaN or infinity.
    """
    with whole_folder(folder) as partial:
        results, _ = detect(device, artifact, card, dataset, batch_size, progress)
        rows = to_coco_json(results, card.category_ids)
        (partial / DETECTIONS).write_text(json.dumps(rows), encoding="utf-8")
        described = {"name": device.card.name, "execution": device.card.execution, "executed": artifact.executed}
        entries = [{"image_id": image_id, "detections": len(found)} for image_id, found in results.items()]
        model = {"model": card.name, "model_sha256": sha256}
        write_manifest(partial, {**model, "device": described, "batch_size": batch_size, "images": entries})
