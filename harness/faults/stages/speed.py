"""Speed that a port claims from a benchmark's log: its specification, its computation and the known mistakes in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from harness.exchange.speed_log import SpeedLog
from harness.faults.fault import Fault, FaultStage


@dataclass(frozen=True, slots=True)
class SpeedSpec:
    """Specification of the counting of a port's own benchmark.

    Attributes:
        padding: Padded slots are images.
        enqueued: The clock stops when the work is given to the device.
        chips: The speed is multiplied by the number of chips.
        mean_of_rates: Rates of the batches are averaged.
        warm_up: The warm-up is inside the interval.
        latency_of_batch: The latency of a batch is taken for that of an image.
        batch_size: In the formula, instead of the one of the run.
    """

    stage: ClassVar[FaultStage] = "speed"

    padding: bool = False
    enqueued: bool = False
    chips: bool = False
    mean_of_rates: bool = False
    warm_up: bool = False
    latency_of_batch: bool = False
    batch_size: int | None = None


def claim(log: SpeedLog, spec: SpeedSpec) -> SpeedLog:
    """Write the speed that the port claims into its log."""
    batches = log.batches if spec.warm_up else log.batches[log.warm_up :]
    size = log.batch_size if spec.batch_size is None else spec.batch_size
    images = [size if spec.padding or spec.batch_size else batch.images for batch in batches]
    ends = [batch.enqueued_ms if spec.enqueued else batch.done_ms for batch in batches]
    times = np.array([end - batch.start_ms for end, batch in zip(ends, batches, strict=True)])
    if spec.mean_of_rates:
        fps = float(np.mean(1000 * np.array(images) / times))
    elif spec.latency_of_batch:
        fps = 1000 / float(np.mean(times))
    elif spec.enqueued:
        fps = 1000 * sum(images) / float(times.sum())
    else:
        fps = 1000 * sum(images) / (batches[-1].done_ms - batches[0].start_ms)
    return log.model_copy(update={"fps": fps * (log.chips if spec.chips else 1)})


SPEED_FAULTS: tuple[Fault[SpeedSpec], ...] = (
    Fault(
        id="fps-padding",
        spec=SpeedSpec,
        description="padded slots count as images",
        seen_in="ais_bench: throughput is batch size over mean time, the last batch padded",
        change=lambda spec, p: replace(spec, padding=True),
    ),
    Fault(
        id="fps-without-synchronisation",
        spec=SpeedSpec,
        description="the clock stops when the work is handed over, not when it is done",
        seen_in="asynchronous execute of every runtime (aclmdlExecuteAsync, CUDA streams)",
        change=lambda spec, p: replace(spec, enqueued=True),
    ),
    Fault(
        id="fps-times-chips",
        spec=SpeedSpec,
        description="the speed is multiplied by the number of chips",
        seen_in="Ascend ModelZoo test/parse.py: times 4 on the Atlas 300I",
        change=lambda spec, p: replace(spec, chips=True),
    ),
    Fault(
        id="fps-mean-of-rates",
        spec=SpeedSpec,
        description="rates of the batches are averaged, not their times",
        seen_in="mean of per-sample throughputs in benchmark scripts",
        change=lambda spec, p: replace(spec, mean_of_rates=True),
    ),
    Fault(
        id="fps-warm-up",
        spec=SpeedSpec,
        description="the warm-up is inside the interval",
        seen_in="ais_bench's API: warm-up counts unless reset",
        change=lambda spec, p: replace(spec, warm_up=True),
    ),
    Fault(
        id="fps-latency-of-batch",
        spec=SpeedSpec,
        description="the latency of a batch is taken for that of an image",
        seen_in="per-batch and per-sample latency mixed up (Ascend 310's 17.25 fps)",
        change=lambda spec, p: replace(spec, latency_of_batch=True),
    ),
    Fault(
        id="fps-batch-size",
        spec=SpeedSpec,
        description="the formula has another batch size than the run",
        seen_in="ais_bench --batchsize enters the formula only",
        change=lambda spec, p: replace(spec, batch_size=int(p[0])),
        parameters=("batch size of the formula",),
        draw=lambda r: (float(r.choice([2, 16, 32])),),
        guesses=((1.0,), (2.0,), (8.0,), (16.0,), (32.0,)),
    ),
)
