"""Small models for the tests of decoding."""

from __future__ import annotations

import numpy as np

from conformance.support.heads import make_heads
from conformance.support.small_model import small_card
from harness.cards.model import Decode, ModelCard
from harness.centernet.decode import decode
from harness.types import Detections, Float32


def card_with(
    *,
    classes: int = 80,
    size: tuple[int, int] = (512, 512),
    activation: str = "logits",
    box: tuple[str, bool, str] = ("wh+reg", True, "grid"),
    geometry: str = "affine",
    keep_res: bool = False,
    **limits: float,
) -> ModelCard:
    """Make a card of some classes and input size (height, width); `box` is box head, presence of reg, and unit."""
    kind, has_reg, unit = box
    heads = ("hm", "wh", "reg") if has_reg else ("hm", "wh")
    return small_card(
        category_ids=tuple(range(1, classes + 1)),
        image={"height": size[0], "width": size[1], "geometry": geometry, "keep_res": keep_res},
        output={"names": heads, "heads": heads, "hm": activation, "box": kind, "box_unit": unit},
        decode=Decode(**limits),
    )


def points_of(hm: Float32, **changes: object) -> tuple[Detections, list[tuple[int, int]]]:
    """Decode one (classes, h, w) heatmap with boxes of size 0; return the detections and their (row, column)."""
    classes, height, width = hm.shape
    flat = np.zeros((1, 2, height, width), np.float32)
    card = card_with(classes=classes, size=(height * 4, width * 4), **changes)
    [found] = decode(card, make_heads(hm[None], flat, flat))
    return found, [(int(y), int(x)) for x, y, _, _ in found.boxes]
