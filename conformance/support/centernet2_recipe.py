"""Weights, heads and objects of the golden numbers in `fixtures/golden/centernet2/`: changed, they no longer belong."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from conformance.support.centernet2_images import block_image
from harness.centernet2 import CenterNet2, create_centernet2
from harness.centernet2.head import FirstStage
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

TARGETS: dict[str, tuple[tuple[int, int], tuple[Boxes, ...]]] = {
    "base": ((128, 160), NARROW_BOXES),
    "no_boxes": ((128, 160), (NARROW_BOXES[0][:2], ())),
    "no_boxes_at_all": ((128, 160), ((), ())),
    "on_borders": (
        (1088, 1088),
        (
            (
                (8.0, 8.0, 104.0, 136.0),
                (200.0, 100.0, 392.0, 356.0),
                (16.0, 400.0, 400.0, 912.0),
                (0.0, 0.0, 768.0, 1024.0),
            ),
        ),
    ),
    "floored_borders": (
        (800, 1088),
        (
            (
                (10.0, 10.0, 87.5, 112.5),
                (200.0, 20.0, 296.75, 148.75),
                (400.0, 30.0, 554.25, 235.5),
                (600.0, 40.0, 792.5, 297.0),
                (5.0, 250.0, 390.0, 763.5),
            ),
        ),
    ),
    "tiny": ((128, 160), (((40.0, 40.0, 40.6, 40.4), (72.0, 64.0, 72.001, 64.001), (96.0, 30.0, 104.0, 30.5)),)),
    "zero_width": ((128, 160), (((40.0, 40.0, 40.0, 60.0), (72.0, 64.0, 72.0, 64.0), (90.0, 20.0, 120.0, 60.0)),)),
    "same_centre": ((128, 160), (SAME_CENTRE,)),
    "same_box_twice": ((128, 160), (((30.0, 30.0, 70.0, 74.0), (30.0, 30.0, 70.0, 74.0)),)),
    "centre_on_cell_border": (
        (128, 160),
        (((0.0, 0.0, 32.0, 32.0), (48.0, 32.0, 80.0, 64.0), (100.0, 61.0, 124.0, 67.0)),),
    ),
    "at_the_edge": ((128, 160), (((152.0, 120.0, 160.0, 128.0), (0.0, 0.0, 3.0, 3.0), (156.5, 0.0, 160.0, 128.0)),)),
    "many": ((256, 320), (MANY,)),
}
"""Sides (height, width) of a batch, and the boxes of each image."""

BEHAVIOUR: dict[str, tuple[Sizes, tuple[Boxes, ...]]] = {
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

ROI_BOXES: tuple[Boxes, ...] = (
    (
        (10.0, 10.0, 50.0, 60.0), (0.0, 0.0, 112.0, 112.0), (0.0, 0.0, 111.99, 111.99), (0.0, 0.0, 224.0, 224.0),
        (0.0, 0.0, 223.9, 223.9), (-30.0, -20.0, 40.0, 50.0), (150.0, 120.0, 260.0, 300.0),
        (33.3, 47.7, 33.31, 47.71), (80.0, 20.0, 80.4, 120.0),
    ),
    (
        (0.0, 0.0, 160.0, 128.0), (0.0, 0.0, 448.0, 448.0), (-100.0, -100.0, 800.0, 800.0),
        (-500.0, -500.0, 1300.0, 1300.0), (-900.0, -900.0, 3000.0, 3000.0), (4.0, 4.0, 12.0, 12.0),
        (61.7, 3.2, 99.9, 77.7),
    ),
)  # fmt: skip
"""At and beside the borders of the levels, outside the image, and thinner than a pixel."""


def random_numbers(text: str) -> np.random.Generator:
    """Make a source of random numbers that hangs on a text."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(text.encode())))


def weight(name: str, shape: tuple[int, ...]) -> Float32:
    """Make the weight of an official name."""
    random, leaf = random_numbers(name), name.rpartition(".")[2]
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


def golden_model(name: str) -> CenterNet2:
    """Make a CenterNet2 with the weights of the golden numbers."""
    model = create_centernet2(name)
    state = {key: torch.from_numpy(weight(key, tuple(value.shape))) for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def first_stage(case: str, height: int, width: int, images: int) -> FirstStage:
    """Make heads whose probabilities pass all thresholds."""
    random = random_numbers(f"heads {case}")
    logits, sides = [], []
    for stride in STRIDES:
        shape = (-(-height // stride), -(-width // stride))
        logits.append(np.clip(random.normal(-4.0, 3.0, (images, 1, *shape)), -12.0, 4.5).astype(np.float32))
        sides.append(np.maximum(random.normal(2.5, 1.5, (images, 4, *shape)), 0.0).astype(np.float32))
    return FirstStage([torch.from_numpy(one) for one in logits], [torch.from_numpy(one) for one in sides])


def pyramid() -> list[torch.Tensor]:
    """Make features P3 to P7 of two images of 128 x 160 pixels, with 6 channels."""
    random = np.random.Generator(np.random.PCG64(31))
    shapes = [(2, 6, -(-128 // stride), -(-160 // stride)) for stride in STRIDES]
    return [torch.from_numpy(random.standard_normal(shape).astype(np.float32)) for shape in shapes]


def moves() -> tuple[Float32, Float32, Float32]:
    """Make boxes, boxes to which they are to move, and deltas, (40, 4) each; the last deltas grow beyond the limit."""
    random = np.random.Generator(np.random.PCG64(32))
    corner = random.uniform(0, 300, (2, 40, 2))
    size = np.exp(random.uniform(np.log(0.5), np.log(300), (2, 40, 2)))
    boxes = np.concatenate((corner, corner + size), axis=2).astype(np.float32)
    deltas = random.standard_normal((40, 4)) * (1.0, 1.0, 2.0, 2.0)
    deltas[-5:, 2:] = random.uniform(20, 200, (5, 2))
    return boxes[0], boxes[1], deltas.astype(np.float32)


def scored_boxes() -> tuple[Float32, Float32]:
    """Make boxes (120, 4) in clusters, one of them infinite, and scores (120, 81)."""
    random, rows = np.random.Generator(np.random.PCG64(33)), 120
    centre = np.repeat(random.uniform((0, 0), (160, 128), (rows // 6, 2)), 6, 0) + random.normal(0, 1.5, (rows, 2))
    half = np.repeat(random.uniform(8, 40, (rows // 6, 2)), 6, 0) * random.uniform(0.92, 1.08, (rows, 2))
    boxes = np.concatenate((centre - half, centre + half), axis=1).astype(np.float32)
    scores = (random.random((rows, 81)) ** 12).astype(np.float32)
    boxes[7, 2] = np.inf
    return boxes, scores


def sampled_labels() -> NDArray[np.int64]:
    """Make the labels of 900 boxes, of which 200 are foreground: more than a quarter of 512."""
    random = np.random.Generator(np.random.PCG64(34))
    return random.permutation(np.concatenate((random.integers(0, 80, 200), np.full(700, 80))))


def arrays(
    sizes: Sizes, boxes: Sequence[Boxes], classes: Sequence[Sequence[int]] | None = None
) -> tuple[list[UInt8], list[Float32], list[NDArray[np.int64]]]:
    """Make images, boxes and classes (0, 1, 2 and so on where none are given) as `training_step` takes them."""
    images = [block_image(index, *size) for index, size in enumerate(sizes)]
    named = [range(len(own)) for own in boxes] if classes is None else classes
    return (
        images,
        [np.array(own, np.float32).reshape(-1, 4) for own in boxes],
        [np.array(own, np.int64) for own in named],
    )
