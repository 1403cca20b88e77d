"""Interval of an AP difference over images that could as well have been chosen: a paired bootstrap.

Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3 (percentile interval), expanded for few images as
Hesterberg, "What Teachers Should Know About the Bootstrap" (The American Statistician 69, 2015), section 4.6 and
table 4: the percentile interval of n images is too narrow by the factor sqrt((n - 1) / n) and by that of the normal
to Student's distribution.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from harness.checks.matching import Matches
from harness.types import Float64

RESAMPLES = 1000
CONFIDENCE = 0.95
LEAST_IMAGES = 10
"""Fewer images have too few distinct resamplings for an interval."""
SEED = 0
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Difference:
    """Loss of AP of a device against the reference on the same images.

    Attributes:
        loss: Reference minus device, as a fraction, on the images as they are.
        low: Lower end of the interval that the loss lies in on other images of the same kind.
        high: Upper end.
        images: How many there are.
    """

    loss: float
    low: float
    high: float
    images: int

    def decides(self, allowed: float) -> bool:
        """Whether the images are enough to tell a loss of at most `allowed` from a larger one."""
        return self.images >= LEAST_IMAGES and not self.low <= allowed < self.high

    def images_to_decide(self, allowed: float) -> int | None:
        """About how many images of the same kind would be enough; None where no number is.

        The interval narrows with the square root of the number of images, and the loss is taken to stay as it is.
        """
        if self.decides(allowed):
            return self.images
        arm = self.high - self.loss if self.loss <= allowed else self.loss - self.low
        distance = abs(allowed - self.loss)
        if not distance:
            return None
        return max(LEAST_IMAGES, math.ceil(self.images * (arm / distance) ** 2))

    def describe(self, allowed: float) -> str:
        """The interval in words, and whether it decides."""
        text = (
            f"AP loss {self.loss:.4f}, {CONFIDENCE:.0%} interval {self.low:.4f} to {self.high:.4f} "
            f"(paired bootstrap over {self.images} images), allowed {allowed:.4f}"
        )
        if self.decides(allowed):
            return text
        needed = self.images_to_decide(allowed)
        enough = "no number of images would settle it" if needed is None else f"about {needed} images would settle it"
        return f"not decidable on {self.images} images: {text}; {enough}"


def paired_bootstrap(
    device: Matches, reference: Matches, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = SEED
) -> Difference:
    """Draw the images anew, with replacement, the same for both sides, and evaluate again.

    Args:
        device: Matched detections of the device.
        reference: Those of the reference on the same images.
        resamples: How often to draw.
        confidence: Share of the interval.
        seed: Of the drawing: the same detections get the same interval.
    """
    images = device.images
    own = _losses(device, reference, np.ones((images, 1), np.int32))[0]
    random = np.random.default_rng(seed)
    drawn = random.multinomial(images, np.full(images, 1 / images), size=resamples).T
    losses = _losses(device, reference, drawn)
    losses = losses[np.isfinite(losses)]  # a resampling may hold no object at all
    tail = NORMAL.cdf(-math.sqrt(images / (images - 1)) * student(confidence, images - 1)) if images > 1 else 0.0
    low, high = np.quantile(losses, (tail, 1 - tail))
    return Difference(float(own), float(low), float(high), images)


def _losses(device: Matches, reference: Matches, weights: NDArray[np.integer]) -> Float64:
    with ThreadPoolExecutor(2, "bootstrap") as pool:  # NumPy lets go of the interpreter
        golden, own = pool.map(lambda side: side.average_precision(weights), (reference, device))
    losses: Float64 = golden - own
    return losses


def student(confidence: float, freedom: int) -> float:
    """Student's distribution: the value that `confidence` of it lies within on both sides.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NORMAL.inv_cdf((1 + confidence) / 2)
    terms: tuple[float, ...] = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / float(freedom) ** power for power, term in enumerate(terms))
