"""Lets ``pytest --coco /data/coco`` find this project's own configuration.

pytest looks for its configuration before it knows the options of a project: it takes ``/data/coco`` for tests to run,
looks for a ``pytest.ini`` beside both that and the current folder, and finds none. ``--coco=/data/coco`` has no such
trouble. So, in this project's checkout, the run starts again with the options written that way. As an installed plug-in
(entry point ``pytest11``) this module is the only part of the suite that pytest loads elsewhere, where it does nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TAKE_PATHS = ("--model", "--weights", "--onnx", "--coco", "--outputs", "--results", "--baseline")


def join_values(arguments: Sequence[str]) -> list[str]:
    """``["--coco", "X"]`` -> ``["--coco=X"]`` for the options whose value may be a path."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in TAKE_PATHS and not argument.startswith("-"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


# Outermost, since the next wrapper redirects standard output and error, and what is started here would inherit that.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Start again with joined options, in this checkout and from a command line."""
    given = sys.argv[1:]
    joined = join_values(given)
    from_shell = tuple(given) == tuple(early_config.invocation_params.args)
    if from_shell and joined != given and early_config.invocation_params.dir == ROOT:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *joined])
    yield
