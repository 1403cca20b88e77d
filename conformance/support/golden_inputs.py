"""Inputs of the golden numbers in `fixtures/golden/pipeline.npz`: changed, they no longer belong to those numbers."""

from __future__ import annotations

import cv2
import numpy as np

from conformance.support.heads import make_heads
from harness.types import Heads, UInt8


def photo(seed: int, height: int, width: int) -> UInt8:
    """Make a smooth (height, width, 3) BGR image; the golden numbers have the seeds 100 to 104."""
    rng = np.random.Generator(np.random.PCG64(seed))
    low = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3)).astype(np.float32)
    smooth = cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(np.round(smooth), 0, 255).astype(np.uint8)


def oracle_heads() -> Heads:
    """Make heads of two samples, (2, channels, 128, 128) float32, with logits."""
    rng = np.random.Generator(np.random.PCG64(150))
    hm = rng.normal(-4, 1.2, (2, 80, 128, 128)).astype(np.float32)
    wh = np.abs(rng.normal(12, 8, (2, 2, 128, 128))).astype(np.float32)
    return make_heads(hm, wh, rng.random((2, 2, 128, 128)).astype(np.float32))
