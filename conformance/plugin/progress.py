"""Signs of life of long runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """Says now and then how far a run is."""

    what: str
    say: Callable[[str], None]
    started: float = 0.0
    said: float = 0.0
    every: float = 10.0

    def __call__(self, done: int, total: int) -> None:
        """Say so, where it is time again."""
        now = time.monotonic()
        if not self.started:
            self.started = self.said = now
            return
        if now - self.said >= self.every and done < total:
            self.said = now
            left = (now - self.started) / done * (total - done)
            self.say(f"{self.what}: {done} of {total} images, about {left:.0f} s left")
