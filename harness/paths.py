"""Where the data of the checkout lies, and where the suite may write."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import HarnessError


def data_path(*parts: str) -> Path:
    """A file or folder below the checkout, such as ``data_path("fixtures", "golden")``.

    Raises:
        HarnessError: It is not there (the package was installed without its checkout).
    """
    path = Path(__file__).resolve().parent.parent.joinpath(*parts)
    if not path.exists():
        raise HarnessError(
            "no such file or folder", file=path, remedy="run from a checkout: git clone, then pip install -e ."
        )
    return path


def cache_path() -> Path:
    """The folder for what can be made again: $CENTERNET_CONFORMANCE_CACHE, or the user's cache folder."""
    chosen = os.environ.get("CENTERNET_CONFORMANCE_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "centernet-conformance"
