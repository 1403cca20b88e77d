"""Processes of one training: started by torchrun or by this module, joined by PyTorch's own collectives."""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from harness.errors import HarnessError
from harness.training.devices import TrainingDevice, make_current

LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""Words by which collectives tell that a process is not there any more."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a training, and which of them this one is.

    Attributes:
        rank: Of this process, from 0.
        count: Of all processes.
        local_rank: Of this process on its host, from 0.
        local_count: Of the processes on this host.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows the progress."""
        return self.rank == 0

    def average(self, values: Tensor) -> Tensor:
        """Return the mean of values over all processes."""
        if self.count == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.count


def from_environment() -> Processes | None:
    """Return the processes that torchrun says there are; None where it did not start this one.

    Raises:
        HarnessError: A variable of torchrun is there, and others are not or are no numbers.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        return Processes(*(int(os.environ[name]) for name in names))
    except (KeyError, ValueError) as error:
        raise HarnessError(
            f"the environment says RANK and WORLD_SIZE, but not all that torchrun sets: {error}",
            field=", ".join(names),
            remedy="start it with torchrun, or without these variables",
        ) from error


def require_devices(device: TrainingDevice, processes: int) -> None:
    """Raise HarnessError where the processes of this host are more than its devices."""
    there = device.count()
    if processes > there:
        raise HarnessError(
            f"{processes} processes, and this host has {there} of device '{device.name}'",
            field="--processes",
            remedy=f"start at most {there}",
        )


@contextmanager
def joined(processes: Processes, device: torch.device) -> Iterator[None]:
    """Join the processes while the block runs, by the backend that PyTorch has for the device."""
    if processes.count == 1:
        yield
        return
    make_current(device)
    dist.init_process_group(dist.get_default_backend_for_device(device))
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own for it
        if not isinstance(error, dist.DistError) and not any(text in str(error) for text in LOST):
            raise
        raise HarnessError(
            "another process of the training has ended, and this one cannot go on without it",
            field="--processes",
            remedy="see what the others said; the same command goes on from the last checkpoint",
        ) from error
    finally:
        dist.destroy_process_group()


def require_shares(batch_size: int, processes: int) -> None:
    """Raise HarnessError where the processes cannot have the same number of images of a batch."""
    if batch_size % processes:
        raise HarnessError(
            f"a batch of {batch_size} images cannot be shared by {processes} processes",
            field="--batch-size",
            remedy=f"give a multiple of {processes}",
        )


def distributed(module: nn.Module) -> DistributedDataParallel:
    """Wrap a module so that its gradients are the mean over all processes; buffers, which no step changes, stay."""
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # as before PyTorch 2.15
    options: Any = {name: False}
    return DistributedDataParallel(module, **options)


def launch(count: int, arguments: Sequence[str]) -> None:
    """Start processes of this Python as torchrun does, and wait for them.

    Args:
        count: Of processes, all on this host.
        arguments: Of Python, as in ``-m harness train ...``.

    Raises:
        HarnessError: One of them failed; the others are ended.
    """
    # Threads of one process on all cores would wait for those of the others.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="training",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    arrived = None
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except SignalException as error:
        arrived = error.sigval
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        ended = f"by signal {-failure.exitcode}" if failure.exitcode < 0 else f"with status {failure.exitcode}"
        raise HarnessError(
            f"process {rank} of {count} ended {ended}, and the training with it",
            field="--processes",
            remedy="see what it said above; the same command goes on from the last checkpoint",
        ) from error
    finally:
        for number, handler in handlers.items():  # the launcher has set its own, and leaves them
            signal.signal(number, handler)
    if arrived is not None:
        signal.raise_signal(arrived)
