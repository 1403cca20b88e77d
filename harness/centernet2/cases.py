"""Cases that a training step is checked on: weights, images and objects, as pure functions of names and numbers.

The golden numbers in `fixtures/golden/centernet2/` were computed on them by the official code: changed, they no longer
belong.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.centernet2.head import FirstStage
from harness.centernet2.model import CenterNet2, create_centernet2
from harness.centernet2.targets import STRIDES
from harness.types import Float32, UInt8

Box = tuple[float, float, float, float]
Boxes = tuple[Box, ...]
Sizes = tuple[tuple[int, int], ...]

NARROW_SIZES: Sizes = ((128, 160), (96, 144))
NARROW_BOXES: tuple[Boxes, ...] = (
    ((20.0, 30.0, 44.0, 56.0), (30.0, 10.0, 110.5, 110.25), (5.0, 60.0, 40.0, 120.0), (0.0, 0.0, 160.0, 128.0)),
    ((0.0, 0.0, 143.0, 95.0), (60.0, 20.0, 100.0, 60.0), (33.0, 40.0, 65.0, 84.0)),
)
R50_SIZES: Sizes = ((256, 320), (224, 352))
R50_BOXES: tuple[Boxes, ...] = (
    ((20.0, 30.0, 60.0, 90.0), (100.5, 40.25, 300.0, 250.0), (5.0, 200.0, 40.0, 250.0), (150.0, 10.0, 171.0, 26.0)),
    ((0.0, 0.0, 351.0, 223.0), (200.0, 60.0, 296.0, 150.0), (33.0, 70.0, 65.0, 134.0)),
)
CLASSES = ((0, 17, 56, 79), (3, 0, 41))
"""Of `NARROW_BOXES` and of `R50_BOXES`."""
MANY: Boxes = tuple(
    (8.0 + 60 * i, 6.0 + 48 * j, 28.0 + 60 * i + 6 * j, 24.0 + 48 * j + 7 * i) for j in range(5) for i in range(5)
)
SAME_CENTRE: Boxes = ((30.0, 30.0, 70.0, 70.0), (40.0, 40.0, 60.0, 60.0), (20.0, 45.0, 80.0, 55.0))

BATCHES: dict[str, tuple[Sizes, tuple[Boxes, ...]]] = {
    "base": (NARROW_SIZES, NARROW_BOXES),
    "second_image_empty": (NARROW_SIZES, (NARROW_BOXES[0], ())),
    "all_images_empty": (NARROW_SIZES, ((), ())),
    "one_image": (NARROW_SIZES[:1], NARROW_BOXES[:1]),
    "other_sizes": (
        ((70, 101), (128, 64), (33, 150)),
        (((10.0, 5.0, 60.0, 50.0),), ((5.0, 40.0, 50.0, 120.0),), ((30.0, 4.0, 120.0, 30.0),)),
    ),
    "border_80": (((144, 160),), (((8.0, 8.0, 104.0, 136.0), (110.0, 20.0, 150.0, 60.0)),)),
    "beyond_80": (((144, 160),), (((8.0, 8.0, 104.75, 136.75), (110.0, 20.0, 150.0, 60.0)),)),
    "tiny": (NARROW_SIZES[:1], (((40.0, 40.0, 40.6, 40.4), (72.0, 64.0, 72.01, 64.01), (96.0, 30.0, 104.0, 60.5)),)),
    "same_centre": (NARROW_SIZES[:1], (SAME_CENTRE,)),
    "large": (((320, 416),), (((8.0, 8.0, 400.0, 312.0), (100.0, 50.0, 350.0, 300.0), (20.0, 20.0, 60.0, 60.0)),)),
    "many": (((256, 320),), (MANY,)),
    "equal_sizes": (
        ((128, 160), (128, 160)),
        (NARROW_BOXES[0], ((0.0, 0.0, 143.0, 95.0), (60.0, 20.0, 100.0, 60.0))),
    ),
}
"""(height, width) and boxes of each image."""


class Case(NamedTuple):
    """A batch with its objects.

    Attributes:
        images: (3, h, w) uint8 BGR each.
        boxes: (n, 4) float32 x1, y1, x2, y2 in pixels, of each image.
        classes: (n,) int64, of each image.
    """

    images: list[UInt8]
    boxes: list[Float32]
    classes: list[NDArray[np.int64]]

    def alone(self, image: int) -> Case:
        """Return a batch of one of the images."""
        return Case([self.images[image]], [self.boxes[image]], [self.classes[image]])


def make_case(sizes: Sizes, boxes: tuple[Boxes, ...], classes: tuple[tuple[int, ...], ...] | None = None) -> Case:
    """Make a batch; the classes of an image are 0, 1, 2 and so on where none are given."""
    named = [range(len(own)) for own in boxes] if classes is None else classes
    return Case(
        [block_image(index, *size) for index, size in enumerate(sizes)],
        [np.array(own, np.float32).reshape(-1, 4) for own in boxes],
        [np.array(own, np.int64) for own in named],
    )


def load_case(name: str) -> Case:
    """Make the batch of `BATCHES` of this name."""
    sizes, boxes = BATCHES[name]
    return make_case(sizes, boxes, CLASSES[: len(sizes)] if boxes == NARROW_BOXES[: len(sizes)] else None)


def block_image(index: int, height: int, width: int) -> UInt8:
    """Make a (3, height, width) BGR image of blocks of 16 pixels, and noise."""
    random = np.random.Generator(np.random.PCG64(1000 + index))
    low = random.integers(0, 256, (3, height // 16 + 1, width // 16 + 1)).astype(np.float32)
    blocks = low.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    noise = random.integers(0, 52, (3, height, width))
    pixels: UInt8 = np.clip(blocks * 0.8 + noise, 0, 255).astype(np.uint8)
    return pixels


def random_numbers(text: str) -> np.random.Generator:
    """Make a source of random numbers that hangs on a text."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(text.encode())))


def case_weight(name: str, shape: tuple[int, ...], salt: str = "") -> Float32:
    """Make the weight of an official name; with another salt, another one of the same kind."""
    random, leaf = random_numbers(salt + name), name.rpartition(".")[2]
    spread, middle, ends = 0.02, 0.0, None
    if ".norm." in name:
        if leaf == "weight":
            stem, last = name.startswith("backbone.bottom_up.stem"), ".conv3.norm" in name
            ends = (0.01, 0.02) if stem else (0.1, 0.3) if last else (0.5, 1.0)
        elif leaf == "running_var":
            ends = (0.8, 1.2)
        else:
            spread = 0.1
    elif leaf == "scale" or (".bbox_tower." in name and leaf == "weight" and len(shape) == 1):
        ends = (0.8, 1.2)
    elif name.endswith("centernet_head.bbox_pred.bias"):
        spread, middle = 0.5, 4.0
    elif name.endswith("centernet_head.agn_hm.bias"):
        spread, middle = 0.0, -4.0
    elif len(shape) > 1:
        named = {
            "centernet_head.agn_hm.weight": 0.15,
            "centernet_head.bbox_pred.weight": 0.04,
            ".cls_score.weight": 0.15,
            ".bbox_pred.weight": 0.02,
        }
        usual = (2.0 / int(np.prod(shape[1:]))) ** 0.5
        spread = next((value for end, value in named.items() if name.endswith(end)), usual)
    values = random.standard_normal(shape) * spread + middle if ends is None else random.uniform(*ends, shape)
    return values.astype(np.float32)


def case_model(network: str, salt: str = "") -> CenterNet2:
    """Make a CenterNet2 with the weights of the cases, see `case_weight`."""
    model = create_centernet2(network)
    state = {name: torch.from_numpy(case_weight(name, tuple(v.shape), salt)) for name, v in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def duplicated_heads() -> FirstStage:
    """Make heads of one image of 128 x 160 pixels that predict one box from P3, P4 and P5, and another one from P3.

    NMS over all levels leaves two proposals, NMS level by level four.
    """
    logits, sides = [], []
    for level, stride in enumerate(STRIDES):
        shape = (-(-128 // stride), -(-160 // stride))
        logits.append(torch.full((1, 1, *shape), -12.0))
        sides.append(torch.zeros((1, 4, *shape)))
        if level < 3:
            cell = 72 // stride
            centre = cell * stride + stride // 2
            logits[-1][0, 0, cell, cell] = 2.0 - level
            ends = (centre - 40, centre - 40, 104 - centre, 104 - centre)
            sides[-1][0, :, cell, cell] = torch.tensor(ends) / stride
    logits[0][0, 0, 2, 3] = 0.5
    sides[0][0, :, 2, 3] = 1.5
    return FirstStage(logits, sides)
