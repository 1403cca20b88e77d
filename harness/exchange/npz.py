"""Arrays in ``.npz`` files that others wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.files import open_regular


def read_npz(path: Path, most: int, *, remedy: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of a file by name; nothing in it is executed.

    Args:
        path: The file.
        most: Bytes that it may have, packed or unpacked.
        remedy: Advice where it is damaged.

    Raises:
        HarnessError: The file is missing, damaged or too large.
    """
    try:
        # NumPy leaves a file open that it opened and could not read.
        with open_regular(path, None, most) as file, np.load(file, allow_pickle=False) as saved:
            if sum(member.file_size for member in saved.zip.infolist()) > most:
                raise ValueError(f"its arrays have more than {most} bytes")
            found = {name: saved[name] for name in saved.files}
        for name, array in found.items():
            if not isinstance(array, np.ndarray):  # a member of another kind comes as bytes
                raise ValueError(f"'{name}' is no array")
        return found
    except HarnessError:
        raise
    except Exception as error:  # what a damaged archive raises is not documented
        raise HarnessError(f"no readable .npz file: {error}", file=path, remedy=remedy) from error
