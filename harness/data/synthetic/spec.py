"""The specification of the generated data set: the record of fixtures/dataset.toml."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Self

from pydantic import Field, model_validator

from harness.cards import COCO_CATEGORY_IDS
from harness.cards.schema import Record, parse, read_toml
from harness.errors import HarnessError
from harness.paths import data_path

Range = tuple[int, int]
"""Lowest and highest value, both included."""

Outline = Literal["rectangle", "ellipse", "triangle_up", "triangle_down", "ring", "cross"]


class Objects(Record):
    """Number, size and placement of the single objects; sides in pixels."""

    count: Range
    small_percent: int = Field(ge=0, le=100)
    large_percent: int = Field(ge=0, le=100)
    small_side: Range
    medium_side: Range
    large_side: Range
    least_side: int = Field(gt=0)
    shade_percent: Range
    visible_percent: int = Field(gt=0, le=100)
    border_percent: int = Field(ge=0, le=100)
    attempts: int = Field(gt=0)


class Crowd(Record):
    """Groups of many small objects of one class that are annotated as one region."""

    percent: int = Field(ge=0, le=100)
    columns: Range
    rows: Range
    member_side: Range
    gap: int = Field(ge=0)


class Ground(Record):
    """The background: grey levels, texture, tint, pixel noise."""

    distractors: Range
    level: Range
    octaves: tuple[tuple[int, int], ...] = Field(min_length=1)
    tint: int = Field(ge=0)
    noise: int = Field(ge=0)


class Split(Record):
    """One part of the data set."""

    number: int = Field(ge=0)
    images: int = Field(gt=0)
    folder: str
    first_id: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Shape(Record):
    """An outline with its proportions: long side / short side and mask / box, in percent."""

    outline: Outline
    along: Literal["x", "y", "either"]
    ratio: Range
    fill: int = Field(gt=0, le=100)


class DrawnClass(Record):
    """A category that is drawn: shape and colour."""

    id: int
    shape: str
    colour: str

    @property
    def name(self) -> str:
        """Name of the category in the annotations: shape and colour."""
        return f"{self.shape}_{self.colour}"


class Pairs(Record):
    """Pairs of category ids that a single mistake of a port confuses."""

    red_blue: tuple[tuple[int, int], ...]
    orientation: tuple[tuple[int, int], ...]
    aspect_ratio: tuple[tuple[int, int], ...]


class Spec(Record):
    """The generated data set."""

    seed: int = Field(ge=0)
    description: str
    coco_names: tuple[str, ...]
    sizes: tuple[tuple[int, int, int], ...] = Field(min_length=1)
    objects: Objects
    crowd: Crowd
    ground: Ground
    split: dict[str, Split]
    colour: dict[str, tuple[int, int, int]]
    shape: dict[str, Shape]
    classes: tuple[DrawnClass, ...] = Field(min_length=1, alias="class")
    pairs: Pairs

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.coco_names) != len(COCO_CATEGORY_IDS):
            raise ValueError(f"coco_names must hold {len(COCO_CATEGORY_IDS)} names")
        ids = [drawn.id for drawn in self.classes]
        if len(set(ids)) != len(ids) or not set(ids) <= set(COCO_CATEGORY_IDS):
            raise ValueError("the ids of the classes must be COCO's, each once")
        for drawn in self.classes:
            if drawn.shape not in self.shape or drawn.colour not in self.colour:
                raise ValueError(f"class {drawn.id} has an unknown shape or colour")
        return self

    @cached_property
    def category_names(self) -> dict[int, str]:
        """Names of all 80 categories by id; drawn ones are named by shape and colour."""
        names = dict(zip(COCO_CATEGORY_IDS, self.coco_names, strict=True))
        return names | {drawn.id: drawn.name for drawn in self.classes}

    @cached_property
    def drawn_ids(self) -> frozenset[int]:
        """Ids of the categories that are drawn."""
        return frozenset(drawn.id for drawn in self.classes)

    def part(self, split: str) -> Split:
        """Return the split of this name.

        Raises:
            HarnessError: There is no such split.
        """
        if split not in self.split:
            raise HarnessError(
                f"the embedded data set has no split '{split}'", remedy=f"use one of {', '.join(self.split)}"
            )
        return self.split[split]


def load_spec() -> Spec:
    """Load the specification of the data set that ships with the suite.

    Raises:
        HarnessError: The file is missing, or has an unknown key, a wrong type or an impossible value.
    """
    file = data_path("fixtures", "dataset.toml")
    return parse(Spec, read_toml(file), file)
