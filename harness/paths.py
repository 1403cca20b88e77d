"""Paths of the data that ship with the suite, and of the cache."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import HarnessError


def data_path(*parts: str) -> Path:
    """Return a file or folder below the checkout, such as ``data_path("fixtures", "golden")``.

    Raises:
        HarnessError: It does not exist (the package was installed without its checkout).
    """
    path = Path(__file__).resolve().parent.parent.joinpath(*parts)
    if not path.exists():
        raise HarnessError(
            "no such file or folder", file=path, remedy="run from a checkout: git clone, then pip install -e ."
        )
    return path


def cache_path() -> Path:
    """Return the cache folder: $CENTERNET_CONFORMANCE_CACHE, or a folder in the user's own cache."""
    chosen = os.environ.get("CENTERNET_CONFORMANCE_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "centernet-conformance"
