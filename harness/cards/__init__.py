"""Cards: the differences between ports as data instead of code."""

from harness.cards.device import DeviceCard, load_device_card
from harness.cards.model import COCO_CATEGORY_IDS, ModelCard, model_card_names
from harness.cards.recipe import Augmentation, RecipeCard, Solver, load_recipe
from harness.cards.two_stage import AnyCard, TwoStageCard, load_card, load_model_card, require_one_stage

__all__ = [
    "COCO_CATEGORY_IDS",
    "AnyCard",
    "Augmentation",
    "DeviceCard",
    "ModelCard",
    "RecipeCard",
    "Solver",
    "TwoStageCard",
    "load_card",
    "load_device_card",
    "load_model_card",
    "load_recipe",
    "model_card_names",
    "require_one_stage",
]
