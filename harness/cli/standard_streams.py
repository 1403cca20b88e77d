"""Standard output and error that are written to whatever their state: unread, closed, of a terminal in ASCII, full."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class StandardStream(io.FileIO):
    """Standard output or error of this process.

    What nobody reads any more (``| head``) is dropped, and the verb comes to its end, its document and its status.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or drop.

        Raises:
            HarnessError: It cannot be written, as on a full disk; what comes later is dropped.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            _to_nowhere(self.fileno())
            return memoryview(data).nbytes
        except OSError as error:
            _to_nowhere(self.fileno())
            raise HarnessError(
                f"cannot be written: {error.strerror}",
                file="standard output" if self.fileno() == 1 else "standard error",
                remedy="check that the disk has space",
            ) from error


def take_standard_streams() -> None:
    """Make `sys.stdout` and `sys.stderr` streams that can be written to; letters that they lack are escaped."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, as with >&-
            _to_nowhere(number)
        elif not isinstance(stream, io.TextIOWrapper):
            continue
        encoding = "utf-8" if stream is None else stream.encoding
        raw = StandardStream(number, "wb", closefd=False)
        buffered = io.BufferedWriter(raw)
        lines = number == 2 or raw.isatty()
        setattr(sys, name, io.TextIOWrapper(buffered, encoding, "backslashreplace", line_buffering=lines))


def _to_nowhere(number: int) -> None:
    """Let a file descriptor lead to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    if null != number:
        os.close(null)
