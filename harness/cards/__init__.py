"""Cards: the differences between ports as data instead of code."""

from harness.cards.device import DeviceCard, load_device_card
from harness.cards.model import COCO_CATEGORY_IDS, ModelCard, load_model_card, model_card_names
from harness.cards.recipe import Augmentation, RecipeCard, Solver, load_recipe

__all__ = [
    "COCO_CATEGORY_IDS",
    "Augmentation",
    "DeviceCard",
    "ModelCard",
    "RecipeCard",
    "Solver",
    "load_device_card",
    "load_model_card",
    "load_recipe",
    "model_card_names",
]
