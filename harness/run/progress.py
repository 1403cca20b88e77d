"""Signs of life of long runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from harness.run.pipeline import Progress

ShowProgress = Callable[[str], AbstractContextManager[Progress]]
"""From the name of some work to a block in which its progress is shown."""


@dataclass(slots=True)
class ProgressLines:
    """Says how many images are done, at most once in a number of seconds.

    Attributes:
        what: Name of the work.
        say: Called with each line.
        every: Seconds between two lines.
    """

    what: str
    say: Callable[[str], None]
    every: float = 10.0
    started: float = 0.0
    said: float = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Say so, where enough seconds have passed and the work is not over."""
        now = time.monotonic()
        if not self.started:
            self.started = self.said = now
            return
        if now - self.said >= self.every and done < total:
            self.said = now
            left = (now - self.started) / done * (total - done)
            self.say(f"{self.what}: {done} of {total} images, about {left:.0f} s left")


def in_lines(say: Callable[[str], None]) -> ShowProgress:
    """Show progress as plain lines."""

    @contextmanager
    def show(what: str) -> Iterator[Progress]:
        yield ProgressLines(what, say)

    return show
