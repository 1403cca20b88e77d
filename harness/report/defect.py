"""Report of a defect of the suite: an exception that nobody foresaw, as an error of one line and a file to send in."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from unittest import SkipTest

from harness.errors import HarnessError
from harness.paths import ROOT
from harness.report.environment import environment

MARK = "this is a defect of the suite: send in"
"""Part of the message of every defect, and of no other."""
LONGEST = 300
"""Characters of an exception's own words in the message; the file has all of them."""
OWN = ("harness", "conformance")
FOREIGN = ROOT / "harness" / "devices" / "foreign.py"
"""All that comes out of a device of another distribution comes through this file."""


class Defect(HarnessError):
    """Error of the suite itself. No expectation excuses it, and no deviation of a device is read from it."""


def defect(error: BaseException, command: Sequence[str] = ()) -> Defect:
    """Make an error of an exception that nobody foresaw, and write the file that tells all about it.

    Args:
        error: As it was caught.
        command: Command line of the run; that of the process where none is given.

    Returns:
        The error. Its remedy names the file in the temporary folder; where that cannot be written, the remedy holds
        the content.
    """
    content = _content(error, command or [Path(sys.argv[0]).name, *sys.argv[1:]])
    file = _written(content)
    return Defect(_cause(error), remedy=f"{MARK} {file}" if file else f"{MARK} what follows\n{content}")


def is_of_device(error: BaseException) -> bool:
    """Tell whether an exception came out of a device of another distribution, which may raise anything.

    Nothing of this project skips or ends a run, so that an exception with which pytest or unittest does is a device's.
    """
    leaves = isinstance(error, SkipTest) or type(error).__module__ == "_pytest.outcomes"
    return leaves or any(Path(frame.filename) == FOREIGN for frame in traceback.extract_tb(error.__traceback__))


def _cause(error: BaseException) -> str:
    words = str(error).strip().splitlines() or [""]
    said = f"{type(error).__name__}: {words[0][:LONGEST]}".removesuffix(": ")
    # Innermost first: the line of this project at which it went wrong.
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in OWN:
            return f"{said} ({path.relative_to(ROOT)}, line {frame.lineno})"
    return said


def _content(error: BaseException, command: Sequence[str]) -> str:
    versions = "\n".join(f"{name} {version}" for name, version in environment().items())
    told = "".join(traceback.format_exception(error))
    return f"command: {' '.join(map(repr, command))}\n\n{versions}\n\n{told}"


def _written(content: str) -> str | None:
    """Write the file whole; return its path, or None where it cannot be written."""
    try:
        handle, path = tempfile.mkstemp(prefix="centernet-conformance-defect-", suffix=".txt")
    except OSError:
        return None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(content)
    except OSError:
        Path(path).unlink(missing_ok=True)
        return None
    return path
