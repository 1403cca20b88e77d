"""Exit status 1 for what a device does wrong, as in the suite."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from harness.report.escape import printable_lines


@contextmanager
def deviations_end_with_1() -> Iterator[None]:
    """End the verb with a message and status 1 where tensors in the block are not those of the card, or not finite."""
    from harness.centernet.decode import NonFiniteHeadError
    from harness.centernet.heads import DeviceOutputError

    try:
        yield
    except (DeviceOutputError, NonFiniteHeadError) as error:
        print(printable_lines("\n".join([str(error), *getattr(error, "__notes__", [])])), file=sys.stderr)
        raise typer.Exit(1) from error
