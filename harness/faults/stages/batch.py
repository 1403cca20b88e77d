"""Batches of a port: the sample that comes back in each slot, and the known mistakes in that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from harness.faults.fault import Fault, FaultStage


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """Specification of the order in which a port returns the samples of a batch.

    Attributes:
        order: Outputs in each slot: its own; those of the batch reversed; in the last slot those of the batch before;
            always those of the first slot; or all from the run before.
    """

    stage: ClassVar[FaultStage] = "batch"

    order: Literal["own", "reversed", "last stale", "first", "run before"] = "own"


def source_of(spec: BatchSpec, index: int, batch_size: int, repeated: int = 0) -> int:
    """Find the image whose outputs come back in the place of those of image `index`.

    Args:
        spec: The order.
        index: Of the image; images run in order.
        batch_size: Slots of a batch.
        repeated: Number of images, where the same images had just been run when the first of these batches was: what is
            stale in it is then of the last batch. 0 where nothing had, so that nothing in it is stale.
    """
    first, slot = index - index % batch_size, index % batch_size
    before = index - batch_size
    if before < 0:
        before += -(-repeated // batch_size) * batch_size
    if spec.order == "reversed":
        return first + batch_size - 1 - slot
    if spec.order == "first":
        return first
    if spec.order == "last stale":
        return before if slot == batch_size - 1 and before >= 0 else index
    if spec.order == "run before":
        return max(before, slot)
    return index


BATCH_FAULTS: tuple[Fault[BatchSpec], ...] = (
    Fault(
        id="batch-permuted",
        spec=BatchSpec,
        description="the samples of a batch come back in the reverse order",
        seen_in="results sorted by file name where names do not sort as they were run (ais_bench, benchmark.x86_64)",
        change=lambda spec, p: replace(spec, order="reversed"),
        applies=lambda s: s.batch_size > 1,
    ),
    Fault(
        id="batch-last-stale",
        spec=BatchSpec,
        description="the last sample of a batch is that of the batch before",
        seen_in="a ring of output buffers one slot too short",
        change=lambda spec, p: replace(spec, order="last stale"),
        applies=lambda s: s.batch_size > 1,
    ),
    Fault(
        id="batch-first-repeated",
        spec=BatchSpec,
        description="every slot of a batch holds the first sample",
        seen_in="Ascend ModelZoo built-in CenterNet: batch 1 written into every reshape of the offsets",
        change=lambda spec, p: replace(spec, order="first"),
        applies=lambda s: s.batch_size > 1,
    ),
    Fault(
        id="run-stale",
        spec=BatchSpec,
        description="the outputs are those of the run before",
        seen_in="files of an earlier run left in the result folder (ais_bench); a copy that does not wait for the chip",
        change=lambda spec, p: replace(spec, order="run before"),
    ),
)
