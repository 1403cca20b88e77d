"""The figures that a port claims, as a file."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError
from harness.files import read_json

CLAIM_BYTES = 2**20
MOST_IMAGES = 10**9
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "images")


def read_claim(file: Path) -> dict[str, float]:
    """The figures of a JSON object such as ``{"AP": 0.364, "images": 5000}``.

    Raises:
        HarnessError: The file is missing or holds something else.
    """
    remedy = f"give a JSON object with some of {', '.join(FIGURES)}, as fractions"
    claim = read_json(file, None, CLAIM_BYTES, cause="no readable JSON", remedy=remedy)
    if not isinstance(claim, dict) or not claim or any(name not in FIGURES for name in claim):
        raise HarnessError("not an object of figures", file=file, remedy=remedy)
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in claim.values()):
        raise HarnessError("a figure is no number", file=file, remedy=remedy)
    for name, value in claim.items():
        # pycocotools says -1 where there is no object of a size. Comparisons with NaN are false.
        if not (-1 <= value <= (MOST_IMAGES if name == "images" else 1)):
            raise HarnessError(f"{name} cannot be {value}", file=file, field=name, remedy=remedy)
    return {name: float(value) for name, value in claim.items()}
