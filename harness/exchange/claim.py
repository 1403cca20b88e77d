"""The figures that a port claims, as a file."""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import HarnessError

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "images")


def read_claim(file: Path) -> dict[str, float]:
    """The figures of a JSON object such as ``{"AP": 0.364, "images": 5000}``.

    Raises:
        HarnessError: The file is missing or holds something else.
    """
    remedy = f"give a JSON object with some of {', '.join(FIGURES)}, as fractions"
    try:
        claim = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise HarnessError(f"no readable JSON: {error}", file=file, remedy=remedy) from error
    if not isinstance(claim, dict) or not claim or any(name not in FIGURES for name in claim):
        raise HarnessError("not an object of figures", file=file, remedy=remedy)
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in claim.values()):
        raise HarnessError("a figure is no number", file=file, remedy=remedy)
    return {name: float(value) for name, value in claim.items()}
