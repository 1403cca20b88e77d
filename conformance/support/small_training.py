"""A small network and a few images for the tests of training."""

from pathlib import Path

from harness.cards import ModelCard, load_model_card
from harness.data.dataset import Dataset, load_coco
from harness.data.synthetic import load_spec, materialise


def small_card(arch: str = "res_18", categories: tuple[int, ...] | None = None, **changes: object) -> ModelCard:
    """Make the embedded card with a network of an eighth of the width; `changes` are of its input."""
    card = load_model_card("embedded")
    assert card.network is not None
    network = card.network.model_copy(update={"arch": arch, "width": 0.125})
    changed = {"network": network, "input": card.input.model_copy(update=changes)}
    return card.model_copy(update=changed if categories is None else {**changed, "category_ids": categories})


def six_images(folder: Path) -> Dataset:
    """Write and load the first images of the embedded training half."""
    return load_coco(materialise(load_spec(), "train", folder, limit=6), split="train2017")
