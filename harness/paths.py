"""Locations of the data that comes with the package, and of the cache."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import HarnessError

STORE = "outputs"
"""Folder of the cache in which outputs of batches are stored, see `harness.run.store`."""
ROOT = Path(__file__).resolve().parent.parent
"""The checkout; of an installed wheel, the folder of all packages."""


def in_checkout() -> bool:
    """Tell whether the package runs from a checkout of its repository, and not from an installed wheel."""
    return (ROOT / "pytest.ini").is_file() and (ROOT / "fixtures").is_dir()


def data_path(*parts: str) -> Path:
    """Return the path of a file or folder of the package's data, such as ``data_path("fixtures", "golden")``.

    `fixtures` and `reports` lie at the top of a checkout, and in an installed wheel in ``harness/_data``.

    Raises:
        HarnessError: There is no such file or folder.
    """
    base = ROOT if (ROOT / "fixtures").is_dir() else ROOT / "harness" / "_data"  # a checkout, or an unpacked sdist
    path = base.joinpath(*parts)
    if not path.exists():
        raise HarnessError(
            "no such file or folder",
            file=path,
            remedy="install the package again: pip install centernet-conformance, or pip install -e . in a checkout",
        )
    return path


def cache_path() -> Path:
    """Return the cache folder: $CENTERNET_CONFORMANCE_CACHE, or one in the user's cache folder."""
    chosen = os.environ.get("CENTERNET_CONFORMANCE_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "centernet-conformance"
