"""The generated data set as a folder in COCO's layout."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from harness.cache import built_folder
from harness.data.synthetic.coco import Annotation, ContentHash, canonical, draw_image, image_entry, instances
from harness.data.synthetic.spec import Spec, load_spec
from harness.errors import HarnessError
from harness.paths import cache_path
from harness.types import Progress

FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
SEAL = "sha256.txt"
"""File in the folder of a split: the hash of the bytes of all its files, when their pixels had the stated hash."""


def embedded_dataset_root(split: str) -> Path:
    """Return the folder of an embedded split in the cache; the first call writes it, each holds it to its hash.

    Raises:
        HarnessError: There is no such split, or the cache cannot be written.
    """
    return materialise(load_spec(), split, cache_path())


def materialise(
    spec: Spec, split: str, root: Path, *, limit: int | None = None, progress: Progress | None = None
) -> Path:
    """Write a split in COCO's layout, unless the folder exists already.

    The folder appears under its name when it is complete (`harness.cache.built_folder`). One that is in the cache
    already is held to its hash, and is written anew, which the log says, where a file was changed since.

    Args:
        spec: The specification of the data set.
        split: Name of the split.
        root: Folder in which the folder of the split is made; that one's name holds the content hash.
        limit: Number of images to write, from the first on; None for all. Such a part has no stated hash to check.
        progress: Called after every image.

    Returns:
        The folder with ``annotations/instances_<folder>.json`` and ``<folder>/*.png``.

    Raises:
        HarnessError: There is no such split, `root` cannot be written, or the images are not those that the
            specification's hash stands for.
    """
    part = spec.part(split)
    total = part.images if limit is None else min(limit, part.images)
    name = f"embedded-{split}-{part.sha256[:12]}" + ("" if total == part.images else f"-first{total}")

    def build(folder: Path) -> None:
        try:
            _write(spec, split, total, folder, progress)
        except OSError as error:
            raise HarnessError(
                f"the embedded data set cannot be written: {error.strerror or error}",
                file=root / name,
                remedy="free some space, or set CENTERNET_CONFORMANCE_CACHE to a folder that can be written",
            ) from error

    def damage(folder: Path) -> str | None:
        expected = part.sha256 if total == part.images else None
        return None if _is_whole(folder, part.folder, expected) else "a file was changed since it was written"

    # What lies elsewhere is the user's, and is not removed.
    return built_folder(root / name, build, damage) if root == cache_path() else built_folder(root / name, build)


def _is_whole(folder: Path, images: str, expected: str | None) -> bool:
    """Tell whether the files are those that were written: by their bytes, or else by their pixels.

    Args:
        folder: Of the split.
        images: Name of the folder of its images.
        expected: Hash of pixels and annotations; None for a part, of which none is stated.
    """
    try:
        found = _bytes_hash(folder, images)
        seal = folder / SEAL
        if seal.is_file() and seal.read_text() == found:
            return True
        if expected is None or _pixel_hash(folder, images) != expected:
            return False
        seal.write_text(found)
    except (OSError, ValueError, KeyError, TypeError):  # unreadable, or no longer what was written
        return False
    return True


def _bytes_hash(folder: Path, images: str) -> str:
    digest = hashlib.sha256()
    for file in [folder / "annotations" / f"instances_{images}.json", *sorted((folder / images).iterdir())]:
        with file.open("rb") as opened:
            digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _pixel_hash(folder: Path, images: str) -> str:
    """Hash of a folder as `draw_image` and `instances` would give it, from what its files hold."""
    document = json.loads((folder / "annotations" / f"instances_{images}.json").read_bytes())
    content = ContentHash()
    for entry in document["images"]:
        data = np.frombuffer((folder / images / str(entry["file_name"])).read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            return ""
        content.add_image(image.astype(np.uint8, copy=False))
    return content.finish(document)


def _write(spec: Spec, split: str, total: int, folder: Path, progress: Progress | None) -> None:
    part = spec.part(split)
    (folder / "annotations").mkdir(parents=True)
    (folder / part.folder).mkdir()
    content = ContentHash()
    images, annotations = [], list[Annotation]()
    for index in range(total):
        drawn = draw_image(spec, split, index)
        content.add_image(drawn.image)
        images.append(image_entry(drawn))
        annotations += drawn.annotations
        # Encoded first and written by Python: cv2.imwrite does not say why a file could not be written.
        _, encoded = cv2.imencode(".png", drawn.image, FAST)
        (folder / part.folder / drawn.file_name).write_bytes(encoded.tobytes())
        if progress is not None:
            progress(index + 1, total)
    document = instances(spec, images, annotations)
    (folder / "annotations" / f"instances_{part.folder}.json").write_bytes(canonical(document))
    (folder / SEAL).write_text(_bytes_hash(folder, part.folder))
    if total == part.images:
        _check(content.finish(document), part.sha256, split)


def _check(found: str, expected: str, split: str) -> None:
    if found != expected:
        raise HarnessError(
            f"the generated images have the content hash {found}, expected {expected}",
            file="fixtures/dataset.toml",
            field=f"split.{split}.sha256",
            remedy="the drawing code or the specification was changed: restore it, or renew hash, weights and goldens",
        )
