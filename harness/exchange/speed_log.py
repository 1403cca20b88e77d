"""Log of a port's own benchmark: the time of each batch, and the speed that it claims."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from harness.cards.schema import FiniteRecord
from harness.errors import not_valid
from harness.files import read_regular

LOG_BYTES = 2**28
LARGEST_MS = 1e12
"""Milliseconds on a clock, 30 years."""
MOST_IMAGES = 2**20
"""Images of a batch."""


class BatchTime(FiniteRecord):
    """One batch on the host's clock."""

    images: int = Field(gt=0, le=MOST_IMAGES)
    """Images in it; slots that pad it do not count."""
    start_ms: float = Field(ge=-LARGEST_MS, le=LARGEST_MS)
    """Its input begins to leave the host."""
    enqueued_ms: float = Field(ge=-LARGEST_MS, le=LARGEST_MS)
    """The call that starts it has returned."""
    done_ms: float = Field(ge=-LARGEST_MS, le=LARGEST_MS)
    """Its outputs are in the host's memory."""

    @model_validator(mode="after")
    def _in_order(self) -> BatchTime:
        if not self.start_ms <= self.enqueued_ms <= self.done_ms or self.start_ms == self.done_ms:
            raise ValueError("start_ms, enqueued_ms and done_ms must ascend")
        return self


class SpeedLog(FiniteRecord):
    """A benchmark's log."""

    batch_size: int = Field(gt=0, le=MOST_IMAGES)
    chips: int = Field(default=1, gt=0, le=4096)
    """Of the card; a speed is of as many as really ran."""
    warm_up: int = Field(default=0, ge=0)
    """Batches at the beginning that do not count."""
    batches: tuple[BatchTime, ...]
    fps: float = Field(gt=0, le=1e9)
    """The speed that is claimed: images a second, host arrays in and out."""

    @model_validator(mode="after")
    def _counts(self) -> SpeedLog:
        if len(self.batches) <= self.warm_up:
            raise ValueError("no batch is left after the warm-up")
        if any(batch.images > self.batch_size for batch in self.batches):
            raise ValueError("a batch holds more images than batch_size")
        return self

    @property
    def measured_fps(self) -> float:
        """Images whose results came back / seconds from the first start to the last result, after the warm-up."""
        counted = self.batches[self.warm_up :]
        seconds = (max(b.done_ms for b in counted) - min(b.start_ms for b in counted)) / 1000
        return sum(b.images for b in counted) / seconds


def read_speed_log(file: Path) -> SpeedLog:
    """Read a log.

    Raises:
        HarnessError: The file is missing or no log.
    """
    content = read_regular(file, None, LOG_BYTES)
    try:
        return SpeedLog.model_validate_json(content)
    except ValidationError as error:
        remedy = "give batch_size, chips, warm_up, fps, and images, start_ms, enqueued_ms, done_ms of each batch"
        raise not_valid("a speed log", error, file=file, remedy=remedy) from error
