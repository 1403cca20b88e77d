"""The recipe card: the contract of one training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from harness.cards.schema import FiniteRecord, Name, card_names, load_named

RECIPES = Path(__file__).parent / "recipes"

MOST_ITERATIONS = 10**9
MOST_IMAGES = 2**20
"""Images of a batch over all processes."""
LARGEST_EDGE = 16384
"""Pixels of a side of a training image."""

Iterations = Annotated[int, Field(gt=0, le=MOST_ITERATIONS)]
Edge = Annotated[int, Field(gt=0, le=LARGEST_EDGE)]


class Solver(FiniteRecord):
    """SGD with momentum, and its schedule: linear warm-up, then a drop at each of the steps.

    Iterations count from 0; each takes `batch_size` images over all processes.
    """

    batch_size: int = Field(gt=0, le=MOST_IMAGES)
    base_lr: float = Field(ge=1e-12, le=1e6)
    """Learning rate between warm-up and the first step."""
    warmup_iterations: int = Field(ge=0, le=MOST_ITERATIONS)
    warmup_factor: float = Field(ge=1e-9, le=1)
    """Share of `base_lr` at iteration 0."""
    steps: tuple[Iterations, ...] = Field(max_length=16)
    """Iterations from which on the rate is `gamma` times what it was."""
    gamma: float = Field(ge=1e-6, le=1)
    iterations: Iterations
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    weight_decay_norm: float = Field(ge=0)
    """Weight decay of normalisation layers."""
    clip_value: float = Field(gt=0)
    """Largest magnitude of a gradient value; beyond it, the value is clipped."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        borders = (self.warmup_iterations, *self.steps)
        if list(borders) != sorted(set(borders)):
            raise ValueError("steps must ascend, and lie after the warm-up")
        return self


class Augmentation(FiniteRecord):
    """Random changes of a training image."""

    shortest_edges: tuple[Edge, ...] = Field(min_length=1)
    """Lengths of the shorter side in pixels, of which one is drawn."""
    longest_edge: Edge
    """Most pixels of the longer side; where it would have more, the shorter side gets less than was drawn."""
    flip: float = Field(ge=0, le=1)
    """Probability of a horizontal flip."""


class TrainingData(FiniteRecord):
    """The images that the recipe is made for."""

    images: int = Field(gt=0)
    """Images of an epoch."""
    source: str


class StaticShapes(FiniteRecord):
    """Fixed numbers of what differs from image to image, for chips and compilers that need static shapes."""

    truth: int = Field(gt=0, le=10**4)
    """Objects of an image. More of them are an error."""
    proposals: int = Field(gt=0, le=10**5)
    """Proposals of an image; more of them are dropped, and reported."""
    proposals_test: int = Field(gt=0, le=10**5)
    """Likewise of an image in which something is to be detected."""
    in_training: bool = False
    """Whether `train` computes its steps with them."""


class PublishedTraining(FiniteRecord):
    """AP that is published for the recipe, as a fraction."""

    ap: float = Field(gt=0, lt=1)
    source: str


class RecipeCard(FiniteRecord):
    """The contract of one training."""

    name: Name
    description: str
    source: str
    solver: Solver
    augmentation: Augmentation
    data: TrainingData
    static_shapes: StaticShapes | None = None
    published: PublishedTraining | None = None


def recipe_names() -> list[str]:
    """List the names of the recipe cards that ship with the suite."""
    return card_names(RECIPES)


def load_recipe(name_or_path: str | Path) -> RecipeCard:
    """Load the recipe card of this name, or at this path.

    Raises:
        HarnessError: No such card, or one with an unknown key, a wrong type or an impossible value.
    """
    return load_named(RecipeCard, name_or_path, RECIPES, "recipe card", "--recipe")
