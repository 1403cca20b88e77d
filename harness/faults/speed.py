"""A benchmark's log and the speed that a port claims from it: right, or with one of the known mistakes."""

from __future__ import annotations

import numpy as np

from harness.exchange.speed_log import BatchTime, SpeedLog
from harness.faults.forms import SpeedForm


def claim(log: SpeedLog, form: SpeedForm) -> SpeedLog:
    """The log with the speed that a port of this form reads from it."""
    batches = log.batches if form.warm_up else log.batches[log.warm_up :]
    size = log.batch_size if form.batch_size is None else form.batch_size
    images = [size if form.padding or form.batch_size else batch.images for batch in batches]
    ends = [batch.enqueued_ms if form.enqueued else batch.done_ms for batch in batches]
    times = np.array([end - batch.start_ms for end, batch in zip(ends, batches, strict=True)])
    if form.mean_of_rates:
        fps = float(np.mean(1000 * np.array(images) / times))
    elif form.latency_of_batch:
        fps = 1000 / float(np.mean(times))
    elif form.enqueued:
        fps = 1000 * sum(images) / float(times.sum())
    else:
        fps = 1000 * sum(images) / (batches[-1].done_ms - batches[0].start_ms)
    return log.model_copy(update={"fps": fps * (log.chips if form.chips else 1)})


__all__ = ["BatchTime", "claim"]
