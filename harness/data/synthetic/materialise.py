"""The generated data set as a folder in COCO's layout."""

from __future__ import annotations

from pathlib import Path

import cv2

from harness.cache import built_folder
from harness.data.synthetic.coco import Annotation, ContentHash, canonical, draw_image, image_entry, instances
from harness.data.synthetic.spec import Spec, load_spec
from harness.errors import HarnessError
from harness.paths import cache_path
from harness.types import Progress

FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def embedded_dataset_root(split: str) -> Path:
    """Return the folder of an embedded split in the cache; the first call writes it.

    Raises:
        HarnessError: There is no such split, or the cache cannot be written.
    """
    return materialise(load_spec(), split, cache_path())


def materialise(
    spec: Spec, split: str, root: Path, *, limit: int | None = None, progress: Progress | None = None
) -> Path:
    """Write a split in COCO's layout, unless the folder exists already.

    The folder appears under its name when it is complete (`harness.cache.built_folder`).

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
        images = sum(path.suffix == ".png" for path in (folder / part.folder).glob("*"))
        whole = images == total and (folder / "annotations" / f"instances_{part.folder}.json").is_file()
        return None if whole else f"it has {images} of {total} images, or no annotations"

    # What lies elsewhere is the user's, and is not removed.
    return built_folder(root / name, build, damage) if root == cache_path() else built_folder(root / name, build)


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
