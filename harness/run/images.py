"""Images of a check: the user's data set or the embedded one, and how the report names them."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from harness.data.dataset import Dataset, load_coco
from harness.data.synthetic import embedded_dataset_root, load_spec
from harness.report.records import Data


def load_images(coco: Path | None, limit: int | None = None) -> Dataset:
    """Load the validation images.

    Args:
        coco: Root of a data set in COCO's layout; None for the embedded one.
        limit: Number of images, those of lowest id; None for all.

    Raises:
        HarnessError: The data set is missing or damaged.
    """
    return load_coco(coco or embedded_dataset_root("val"), limit=limit)


def describe_images(dataset: Dataset, coco: Path | None) -> Data:
    """Name, number and content hash of the images.

    Args:
        dataset: From `load_images`.
        coco: As given to it.
    """
    images = len(dataset)
    if coco is not None:
        return Data(name=coco.name, images=images, sha256=dataset.content_hash)
    # The pixels are those of the specification; the files that hold them differ between versions of OpenCV.
    part = load_spec().part("val")
    first = part.sha256 if images == part.images else sha256(f"{part.sha256} {images}".encode()).hexdigest()
    return Data(name="embedded", images=images, sha256=first)
