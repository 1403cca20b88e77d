"""The generated images with annotations in COCO's format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.synthetic.layout import SceneLayout
from harness.data.synthetic.paint import paint
from harness.data.synthetic.scene import lay_out
from harness.data.synthetic.spec import Spec
from harness.types import UInt8

Annotation = dict[str, Any]
"""One entry of ``annotations`` of COCO's instances file, integers throughout."""

ID_STEP = 37
ANNOTATIONS_PER_IMAGE = 100


@dataclass(frozen=True, slots=True)
class SyntheticImage:
    """One image of the generated data set.

    Attributes:
        image: (height, width, 3) BGR.
        annotations: COCO annotations of the visible objects.
        image_id: COCO id.
        file_name: Name within the split's folder.
    """

    image: UInt8
    annotations: list[Annotation]
    image_id: int
    file_name: str


def draw_image(spec: Spec, split: str, index: int) -> SyntheticImage:
    """Draw image `index` of a split, the same on every machine and in any order of drawing.

    Raises:
        HarnessError: There is no such split.
        IndexError: The split has no image `index`.
    """
    layout = lay_out(spec, split, index)
    image_id = image_id_of(spec, split, index)
    return SyntheticImage(
        paint(spec, split, index, layout), _annotations(layout, image_id), image_id, f"{image_id:012d}.png"
    )


def annotations_of(spec: Spec, split: str, index: int) -> list[Annotation]:
    """Return the annotations of image `index` of a split, without painting it.

    ``bbox`` (x, y, width, height) is the extent of the visible part and ``area`` its number of pixels, as in COCO, in
    image pixels. A crowd (``iscrowd`` 1) has its mask as uncompressed run lengths; single objects have no polygon.

    Raises:
        HarnessError: There is no such split.
        IndexError: The split has no image `index`.
    """
    return _annotations(lay_out(spec, split, index), image_id_of(spec, split, index))


def image_id_of(spec: Spec, split: str, index: int) -> int:
    """Return the COCO id of image `index` of a split."""
    return spec.part(split).first_id + ID_STEP * index


def _annotations(layout: SceneLayout, image_id: int) -> list[Annotation]:
    found = []
    for index, thing in enumerate(layout.objects):
        (rows, columns), _ = layout.window(thing)
        mask = layout.visible(index)
        y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top, right, bottom = (int(value) for value in (x[0], y[0], x[-1] + 1, y[-1] + 1))
        found.append(
            {
                "id": image_id * ANNOTATIONS_PER_IMAGE + index,
                "image_id": image_id,
                "category_id": thing.drawn.id,
                "bbox": [columns.start + left, rows.start + top, right - left, bottom - top],
                "area": int(np.count_nonzero(mask)),
                "iscrowd": int(thing.crowd),
                "segmentation": run_lengths(layout.owner == index) if thing.crowd else [],
            }
        )
    return found


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Encode a (height, width) mask as COCO's uncompressed run lengths: down the columns, zeros first."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate(([0], changes, [flat.size]))
    counts = np.diff(bounds).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def instances(spec: Spec, images: Iterable[dict[str, Any]], annotations: Iterable[Annotation]) -> dict[str, Any]:
    """Make the document of COCO's instances file."""
    return {
        "info": {"description": spec.description},
        "licenses": [],
        "images": list(images),
        "annotations": list(annotations),
        "categories": [
            {"id": id_, "name": name, "supercategory": "drawn" if id_ in spec.drawn_ids else "not drawn"}
            for id_, name in spec.category_names.items()
        ],
    }


def image_entry(drawn: SyntheticImage) -> dict[str, Any]:
    """Make the entry of an image in ``images`` of COCO's instances file."""
    height, width, _ = drawn.image.shape
    return {"id": drawn.image_id, "file_name": drawn.file_name, "width": width, "height": height}


def canonical(document: dict[str, Any]) -> bytes:
    """Write JSON with sorted keys and no spaces, so that equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


class ContentHash:
    """SHA-256 over decoded pixels and annotations, independent of the compression of the files."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add_image(self, image: UInt8) -> None:
        """Add the pixels of the next image; its size is part of the annotations."""
        self._hash.update(np.ascontiguousarray(image).tobytes())

    def finish(self, document: dict[str, Any]) -> str:
        """Add the document of the instances file and return the hash in hexadecimal."""
        self._hash.update(canonical(document))
        return self._hash.hexdigest()
