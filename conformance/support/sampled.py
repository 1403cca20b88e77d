"""Parameters of a test of which few run by default, and all under ``-m catalogue``."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], default: Collection[Any]) -> list[Any]:
    """Mark the parameters that are not among those of the default run."""
    every = list(values)
    assert set(default) <= set(every)
    return [
        pytest.param(
            *(one if isinstance(one, tuple) else (one,)), marks=[] if one in default else pytest.mark.catalogue
        )
        for one in every
    ]
