"""Ctrl-C for code of a runtime that does not come back to Python: its runs are told to stop.

Python runs the handler of a signal between two of its own instructions. While a runtime works (a model may loop for
ever), there are none: the handler has to wait. What comes at once is the byte that `signal.set_wakeup_fd` writes; a
thread waits for it and stops the runs. They raise, and the handler then raises `KeyboardInterrupt` as usual.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 1.5
"""Seconds after which a run that was told to stop, and does not, ends the process: one operator may take hours."""

_running: dict[object, Callable[[], None]] = {}
"""Functions that stop each run in progress."""
_watched: list[int] = []
"""The pipe to the thread that waits for signals, once it has been started."""


class Stoppable:
    """Lets Ctrl-C and SIGTERM call `stop`, in another thread, while its block runs.

    A class and no generator: it stands around every run of a device, whose time counts.

    Args:
        stop: Makes the block raise soon; it may be called more than once.
    """

    __slots__ = ("stop",)

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop = stop

    def __enter__(self) -> None:
        if not _watched:
            _watch()
        _running[self] = self.stop

    def __exit__(self, *error: object) -> None:
        _running.pop(self, None)


def _watch() -> None:
    """Start the thread; only the main thread may, and a later call of it then does."""
    if threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _watched.extend((reader, writer))
    threading.Thread(target=_wait, args=(reader, earlier), name="signals", daemon=True).start()


def _wait(reader: int, earlier: int) -> None:
    while received := os.read(reader, 64):
        if earlier >= 0:
            with contextlib.suppress(OSError):  # whoever else waits for signals may be gone
                os.write(earlier, received)
        for number in SIGNALS:
            if number in received:
                _stop(number)


def _stop(number: signal.Signals) -> None:
    told = dict(_running)
    for stop in told.values():
        stop()
    until = time.monotonic() + GRACE_S
    while told.keys() & _running.keys():
        if time.monotonic() > until:
            print(
                f"{number.name}: an operator of the model does not end; the process does", file=sys.stderr, flush=True
            )
            sys.stderr.flush()
            os._exit(128 + number)
        time.sleep(0.02)


def _forget() -> None:
    """Leave the pipe to the parent: a child of a fork has no thread that reads it."""
    if _watched:
        _watched.clear()
        _running.clear()
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
