"""SIGINT and SIGTERM as exceptions: blocks are left, files removed and documents written, and the status says which."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

SAME_S = 1.0
"""Seconds within which a second SIGTERM is the first once more: `timeout` sends one to the process and to its group."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; it is handled as Ctrl-C is."""


class Received:
    """The signal that arrived last.

    Attributes:
        number: SIGINT or SIGTERM; None while neither arrived.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self._at = 0.0

    @property
    def status(self) -> int | None:
        """Exit status as shells have it, 130 after SIGINT and 143 after SIGTERM; None while neither arrived."""
        return None if self.number is None else 128 + self.number

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Note a SIGINT and raise KeyboardInterrupt; the signal module calls this."""
        self.number = signal.SIGINT
        raise KeyboardInterrupt

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """Note a SIGTERM and raise Terminated; the signal module calls this."""
        now = time.monotonic()
        if self.number is signal.SIGTERM and now - self._at < SAME_S:
            return
        self.number, self._at = signal.SIGTERM, now
        raise Terminated


@contextmanager
def received_signals() -> Iterator[Received]:
    """Turn SIGTERM into `Terminated` while the block runs, and note SIGINT as well.

    A signal that is ignored stays so (SIGINT in the background of a shell), and so does a handler of others. Outside
    the main thread nothing is changed, since signals arrive there.
    """
    received = Received()
    usual: dict[signal.Signals, Handler] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    handlers: dict[signal.Signals, Handler] = {signal.SIGINT: received.interrupt, signal.SIGTERM: received.terminate}
    is_main = threading.current_thread() is threading.main_thread()
    replaced = [number for number, before in usual.items() if is_main and signal.getsignal(number) == before]
    for number in replaced:
        signal.signal(number, handlers[number])
    try:
        yield received
    finally:
        for number in replaced:
            signal.signal(number, usual[number])


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while a short block runs that must not be left in its middle; then they arrive."""
    held: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    replaced = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in replaced:
        signal.signal(number, lambda arrived, frame: held.append(arrived))
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
    for arrived in held[:1]:
        signal.raise_signal(arrived)
