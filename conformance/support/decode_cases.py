"""Small models for the tests of decoding."""

from __future__ import annotations

import numpy as np

from conformance.support.heads import make_heads
from harness.cards.model import Decode, Input, ModelCard, OutputHeads
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
    """A model of these classes and input (height, width); `box`: the box head, whether there is reg, and the unit."""
    kind, has_reg, unit = box
    heads = ("hm", "wh", "reg") if has_reg else ("hm", "wh")
    pixels = {"channel_order": "BGR", "scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return ModelCard(
        name="c",
        description="d",
        source="s",
        category_ids=tuple(range(1, classes + 1)),
        input=Input(height=size[0], width=size[1], geometry=geometry, keep_res=keep_res, **pixels),
        output=OutputHeads(names=heads, heads=heads, hm=activation, box=kind, box_unit=unit),
        decode=Decode(**limits),
    )


def points_of(hm: Float32, **changes: object) -> tuple[Detections, list[tuple[int, int]]]:
    """Detections of one (classes, h, w) heatmap with boxes of no size, and the (row, column) they lie at."""
    classes, height, width = hm.shape
    flat = np.zeros((1, 2, height, width), np.float32)
    found = decode(
        card_with(classes=classes, size=(height * 4, width * 4), **changes), make_heads(hm[None], flat, flat)
    )[0]
    return found, [(int(y), int(x)) for x, y, _, _ in found.boxes]
