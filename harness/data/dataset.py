"""Reading data sets laid out like COCO: ``annotations/instances_SPLIT.json`` beside the images in ``SPLIT/``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from harness.cards.model import LARGEST_ID
from harness.data.image_size import stated_size
from harness.errors import HarnessError
from harness.files import is_file, open_regular, read_regular
from harness.files.reading import LONGEST_NAME
from harness.types import UInt8

INSTANCES_BYTES = 2**31
"""Most that an instances file may have; that of COCO's train2017 has 449 MB."""
IMAGE_BYTES = 2**28
IMAGE_PIXELS = 2**27
"""Most pixels of an image, 134 million: decoded it takes 400 MB."""
LARGEST_EXTENT = 1e7
"""Pixels from the origin to which an annotated box may reach."""


def _within_folder(name: str) -> str:
    """Refuse a file name that leads out of the folder of the images, or that no file can have."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError("it must name a file below the folder of the images")
    if "\0" in name or any(len(part.encode(errors="replace")) > LONGEST_NAME for part in name.split("/")):
        raise ValueError(f"no file can have this name: a part of it has more than {LONGEST_NAME} bytes, or a NUL")
    return name


Id = Annotated[int, Field(ge=-LARGEST_ID, le=LARGEST_ID)]
Side = Annotated[int, Field(gt=0, le=IMAGE_PIXELS)]
Extent = Annotated[float, Field(ge=-LARGEST_EXTENT, le=LARGEST_EXTENT, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image of the data set; width and height in pixels."""

    id: Id
    file_name: Annotated[str, AfterValidator(_within_folder)]
    width: Side
    height: Side


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotated object.

    Attributes:
        id: Distinct within the file.
        image_id: The image it is in.
        category_id: Its category.
        bbox: x, y (top left), width, height in image pixels.
        area: Area of the object's outline in square pixels; it decides between COCO's small, medium and large.
        iscrowd: 1 if the box holds many objects: detections in it count neither as found nor as wrong.
    """

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[Extent, Extent, Extent, Extent]
    area: Annotated[float, Field(ge=0, le=LARGEST_EXTENT**2, allow_inf_nan=False)]
    iscrowd: Literal[0, 1]


@dataclass(frozen=True, slots=True)
class Category:
    """A category; ids need not be consecutive (COCO's 80 lie between 1 and 90)."""

    id: Id
    name: str


@dataclass(frozen=True, slots=True)
class Instances:
    """The part of an instances file that detections are evaluated against, in the order of the file."""

    images: tuple[ImageEntry, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]


_INSTANCES = TypeAdapter(Instances)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The chosen images of a data set with their annotations.

    Attributes:
        folder: Folder of the images.
        instances: The images by ascending id, their annotations, and all categories.
    """

    folder: Path
    instances: Instances

    def __len__(self) -> int:
        return len(self.instances.images)

    def first(self, count: int) -> Dataset:
        """Return the `count` images of lowest id, with their annotations."""
        return self.of(image.id for image in self.instances.images[:count])

    def of(self, image_ids: Iterable[int]) -> Dataset:
        """Return these images, with their annotations, by ascending id; ids that are not there are left out."""
        chosen = set(image_ids)
        images = tuple(image for image in self.instances.images if image.id in chosen)
        annotations = tuple(entry for entry in self.instances.annotations if entry.image_id in chosen)
        return Dataset(self.folder, replace(self.instances, images=images, annotations=annotations))

    @cached_property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the images, ascending."""
        return tuple(self._images)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of all that an AP depends on: the annotations of the chosen images and the bytes of their files.

        Computed on first use, which reads every file once. Names, places and formatting of the files do not matter.
        """
        named = asdict(self.instances)
        truth = {kind: sorted(entries, key=lambda entry: int(entry["id"])) for kind, entries in named.items()}
        for image in truth["images"]:
            del image["file_name"]
        digest = hashlib.sha256(json.dumps(truth, sort_keys=True).encode())
        for image_id in self.image_ids:
            digest.update(bytes.fromhex(self.image_sha256(image_id)))
        return digest.hexdigest()

    def image_sha256(self, image_id: int) -> str:
        """Return the SHA-256 of the file of an image; it is read once."""
        if image_id not in self._digests:
            with open_regular(self.path(image_id), None, IMAGE_BYTES) as file:
                self._digests[image_id] = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        return self._digests[image_id]

    def path(self, image_id: int) -> Path:
        """Return the file of an image; KeyError if the image is not among the chosen."""
        return self.folder / self._images[image_id].file_name

    def size(self, image_id: int) -> tuple[int, int]:
        """Return the annotated (width, height) of an image in pixels; KeyError if it is not among the chosen."""
        image = self._images[image_id]
        return image.width, image.height

    def read_image(self, image_id: int) -> UInt8:
        """Decode an image as the official code does, EXIF orientation applied.

        Returns:
            (height, width, 3) uint8, BGR.

        Raises:
            HarnessError: The file is no image, is truncated or too large, or its size is not the annotated one.
            KeyError: The image is not among the chosen.
        """
        path = self.path(image_id)
        image = _decode(read_regular(path, None, IMAGE_BYTES, remedy="restore the file"), path)
        height, width = image.shape[:2]
        if (width, height) != self.size(image_id):
            expected = "{} x {}".format(*self.size(image_id))
            raise HarnessError(
                f"the image is {width} x {height} pixels, its annotations are for {expected}",
                file=path,
                remedy="use the images that the annotations were made on, not resized or rotated",
            )
        return image

    @cached_property
    def _digests(self) -> dict[int, str]:
        return {}

    @cached_property
    def _images(self) -> dict[int, ImageEntry]:
        return {image.id: image for image in self.instances.images}


def _decode(data: bytes, path: Path) -> UInt8:
    """Decode an image to (height, width, 3) uint8, BGR."""
    size = stated_size(data)
    if size is not None and size[0] * size[1] > IMAGE_PIXELS:
        raise HarnessError(
            f"the image states {size[0]} x {size[1]} pixels, and at most {IMAGE_PIXELS} are decoded",
            file=path,
            remedy="download it again, or leave it out",
        )
    try:
        # cv2.imread paints grey what a truncated JPEG lacks and returns it; from memory the same decoder refuses.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except (cv2.error, MemoryError):  # of a format whose header is not read here
        image = None
    if image is None:
        raise HarnessError(
            f"not a whole image ({len(data)} bytes)", file=path, remedy="download it again, or restore the file"
        )
    return image.astype(np.uint8, copy=False)


def load_coco(root: Path, *, limit: int | None = None, split: str = "val2017") -> Dataset:
    """Load the data set below `root`, or its `limit` images of lowest id.

    A link in the folder of the images is followed, as those are that some stores of data make of every image; a file
    name in the annotations cannot lead out of the folder by itself.

    Raises:
        HarnessError: `limit` is below 1, the annotations are missing or wrong (see `read_instances`), or a chosen
            image is not on disk.
    """
    if limit is not None and limit < 1:
        raise HarnessError(f"{limit} images leave nothing to run", field="--limit", remedy="give 1 or more")
    file, folder = root / "annotations" / f"instances_{split}.json", root / split
    instances = read_instances(file)
    images = tuple(sorted(instances.images, key=lambda image: image.id)[:limit])
    missing = [image.file_name for image in images if not is_file(folder / image.file_name)]
    if missing:
        raise HarnessError(
            f"{len(missing)} of {len(images)} images are not there: {first_few(missing)}",
            file=folder,
            remedy=f"unpack the images of {split} here, or give --limit to use fewer",
        )
    return Dataset(folder, replace(instances, images=images)).first(len(images))


def read_instances(file: Path) -> Instances:
    """Read and check a COCO instances file; keys that detection does not need are left out.

    Raises:
        HarnessError: The file is missing, is no JSON, is no instances file, has no images, has an id twice, or has
            annotations that refer to unknown images or categories.
    """
    remedy = f"give --coco the folder that holds {file.parent.name}/{file.name}"
    content = read_regular(file, None, INSTANCES_BYTES, remedy=remedy)
    try:
        instances = _INSTANCES.validate_json(content, strict=True)
    except ValidationError as error:
        raise _not_instances(file, error) from error
    check_instances(file, instances)
    return instances


def _not_instances(file: Path, error: ValidationError) -> HarnessError:
    errors = error.errors(include_url=False, include_input=False)
    first = errors[0]
    if first["type"] == "json_invalid":
        return HarnessError(f"truncated or corrupt: {first['msg']}", file=file, remedy="download it again")
    missing = [str(entry["loc"][0]) for entry in errors if entry["type"] == "missing" and len(entry["loc"]) == 1]
    cause = f"not an instances file: no {', '.join(missing)}" if missing else first["msg"].removeprefix("Value error, ")
    more = f"; and {len(errors) - 1} more" if len(errors) > 1 and not missing else ""
    return HarnessError(
        cause + more,
        file=file,
        field=None if missing else ".".join(str(part) for part in first["loc"]) or None,
        remedy="give a COCO instances file; those of captions, panoptic segmentation or image_info do not serve",
    )


def check_instances(file: Path, instances: Instances) -> None:
    """Raise HarnessError where there are no images, an id stands twice, or an annotation has no image or category."""
    if not instances.images:
        raise HarnessError("no images", file=file, field="images", remedy="give the annotations of at least one image")
    ids: dict[str, Counter[int]] = {
        "images": Counter(image.id for image in instances.images),
        "annotations": Counter(annotation.id for annotation in instances.annotations),
        "categories": Counter(category.id for category in instances.categories),
    }
    for field, counts in ids.items():
        twice = [value for value, count in counts.items() if count > 1]
        if twice:
            raise HarnessError(
                f"{len(twice)} ids stand more than once: {first_few(twice)}",
                file=file,
                field=field,
                remedy="give every entry its own id",
            )
    for field, key in (("images", "image_id"), ("categories", "category_id")):
        unknown = [entry.id for entry in instances.annotations if getattr(entry, key) not in ids[field]]
        if unknown:
            raise HarnessError(
                f"{len(unknown)} annotations have a {key} that is not among the {field}: ids {first_few(unknown)}",
                file=file,
                field="annotations",
                remedy=f"add the {field}, or remove these annotations",
            )


def first_few(values: Sequence[object]) -> str:
    """Join the first five values for a message."""
    return ", ".join(str(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")
