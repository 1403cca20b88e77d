"""Last resort of the command line: what no verb foresaw ends with status 4, one line and a file to send in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import typer

from harness.errors import HarnessError
from harness.report.defect import OWN, Defect, defect

FORESEEN = (HarnessError, typer.Exit, typer.Abort, typer.BadParameter)
WITH_DOCUMENT = ("check", "compare")
"""Verbs whose ``--results`` is the results document."""


def guarded(verb: Callable[..., None]) -> Callable[..., None]:
    """Wrap a verb so that it ends by itself, with `HarnessError`, or with a missing package that is not the suite's.

    The wrapper lies within the parser, which ends with status 1 on EOFError, as on a question that nobody answered.
    """

    @wraps(verb)
    def wrapper(**options: object) -> None:
        with at_hand(lambda found: _documented(found, verb.__name__, options)):
            verb(**options)

    return wrapper


def require_current_folder() -> None:
    """Refuse to work in a folder that was removed: relative paths lead nowhere, and libraries cannot be loaded.

    Raises:
        HarnessError: The current folder is gone.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise HarnessError("the current folder is gone", remedy="change to a folder that is there") from error


@contextmanager
def at_hand(then: Callable[[Defect], HarnessError] = lambda found: found) -> Iterator[None]:
    """Turn what nobody foresaw in the block into an error.

    Args:
        then: Called with the error; returns the one to raise.

    Raises:
        HarnessError: The block raised it, or something that nobody foresaw.
        ModuleNotFoundError: A package of others is missing, which `harness.__main__` tells.
    """
    try:
        yield
    except FORESEEN:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in OWN:
            raise
        raise then(defect(error)) from error
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk can still be told


def _documented(found: Defect, verb: str, options: Mapping[str, object]) -> HarnessError:
    results, model = options.get("results"), str(options.get("model"))
    if verb not in WITH_DOCUMENT or not isinstance(results, Path):
        return found
    try:
        from harness.run.conclude import refuse

        return refuse(model, found, results)
    except Exception:  # the same defect may hit here, and it is the first that is to be told
        return found
