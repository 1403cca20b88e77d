"""Heads and objects of the golden numbers in `fixtures/golden/centernet2/`: changed, they no longer belong."""

import numpy as np
import torch
from numpy.typing import NDArray

from harness.centernet2.cases import MANY, NARROW_BOXES, SAME_CENTRE, Boxes, random_numbers
from harness.centernet2.head import FirstStage
from harness.centernet2.targets import STRIDES
from harness.types import Float32

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
