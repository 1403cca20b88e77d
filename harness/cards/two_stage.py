"""The model card of a two-stage detector, and the card of either kind."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from harness.cards.model import CARDS, COCO_CATEGORY_IDS, LARGEST_ID, ModelCard, Published
from harness.cards.recipe import Edge
from harness.cards.schema import FiniteRecord, Name, named_path, parse, read_toml
from harness.errors import HarnessError

WHAT, FIELD = "model card", "--model"
FAMILY = "centernet2"


class TestSize(FiniteRecord):
    """Size to which an image is resized, its aspect ratio kept."""

    shortest_edge: Edge
    longest_edge: Edge
    """The most that the longer side may have; the shorter one then stays below `shortest_edge`."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.longest_edge < self.shortest_edge:
            raise ValueError("longest_edge must not be less than shortest_edge")
        return self


class TwoStageCard(FiniteRecord):
    """The contract of one CenterNet2: its network, its categories and the size of its images.

    All other numbers of the model stand in ``harness/cards/centernet2.toml``, which its networks share.
    """

    name: Name
    family: Literal["centernet2"]
    """The package of `harness/` that implements this kind of model."""
    description: str
    source: str
    network: Name
    """One of the networks in ``centernet2.toml``."""
    category_ids: tuple[int, ...] = COCO_CATEGORY_IDS
    """Data-set category of each class."""
    test: TestSize
    batch_sizes: tuple[int, ...] = Field(default=(1,), min_length=1, max_length=1)
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.category_ids or len(set(self.category_ids)) != len(self.category_ids):
            raise ValueError("category_ids must be distinct and not empty")
        if not all(0 <= category <= LARGEST_ID for category in self.category_ids):
            raise ValueError(f"category_ids must lie in 0..{LARGEST_ID}")
        if self.batch_sizes != (1,):
            raise ValueError("images differ in size: batch_sizes must be [1]")
        return self


AnyCard = ModelCard | TwoStageCard


def load_card(name_or_path: str | Path) -> AnyCard:
    """Load the card of this name, or at this path, of either kind; its `family` says which.

    Raises:
        HarnessError: No such card, or one with an unknown key, a wrong type or an impossible value.
    """
    path = named_path(name_or_path, CARDS, WHAT, FIELD)
    values = read_toml(path)
    if values.get("family") == FAMILY:
        return parse(TwoStageCard, values, path)
    return parse(ModelCard, values, path)


def load_model_card(name_or_path: str | Path) -> ModelCard:
    """Load the card of a one-stage model by name or path.

    Raises:
        HarnessError: See `load_card`; or the card is of a two-stage detector.
    """
    return require_one_stage(load_card(name_or_path))


def require_one_stage(card: AnyCard) -> ModelCard:
    """Return the card where it is of a one-stage model.

    Raises:
        HarnessError: It is of a two-stage detector.
    """
    if isinstance(card, TwoStageCard):
        raise HarnessError(
            f"'{card.name}' is a two-stage detector: it has no heatmap that could be written, exported or decoded, "
            "and its second stage looks at as many boxes as the image has",
            field=FIELD,
            remedy="use infer, score, check and pytest -m accuracy, which take it on --device torch; "
            "or give a card of the family 'centernet'",
        )
    return card
