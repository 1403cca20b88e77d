"""One process of a training that is checked: steps on a share of a batch, or iterations that are timed.

torchrun starts it once a process, with the file of a `Job`.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.cards import load_recipe
from harness.cards.model import COCO_CATEGORY_IDS
from harness.cards.schema import FiniteRecord
from harness.centernet2.cases import Case, load_case
from harness.centernet2.losses import of_one_process
from harness.centernet2.model import create_centernet2
from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import Values, short_schedule
from harness.centernet2.stepping import Stepping
from harness.centernet2.training import Settings, TwoStageTraining
from harness.centernet2.weights import load_weights
from harness.data.dataset import load_coco
from harness.faults.training import TRAINING_FAULTS
from harness.files import whole_file
from harness.files.temporary import TemporaryFolder
from harness.training.devices import autocast, full_float32, training_device
from harness.training.loop import Iteration, run
from harness.training.processes import Processes, distributed, from_environment, joined
from harness.training.schedule import scaled_to

STEPS = 3
WARM_UP, TIMED = 5, 20
"""Iterations before those that are timed, and of these."""
IMAGES, EDGE, SPLIT = 2, 128, "train2017"
"""Images of a process in what is timed, their shorter side in pixels, and the split that they are of."""
LOSS_SCALE = 128.0
CASE = "equal_sizes"
"""Batch of two images of one size: each process pads its share as one process pads both."""


class Job(FiniteRecord):
    """What a process is to do."""

    kind: Literal["steps", "speed"]
    device: str
    network: str
    precision: str
    weights: Path
    output: Path
    """File of arrays that the first process writes."""
    data: Path
    """Data set in COCO's layout, for what is timed."""
    fault: str | None = None
    """Known mistake that the training makes."""


def take_steps(port: TrainingPort, case: Case, processes: Processes) -> Values:
    """Take steps by a short schedule on this process's share of a batch.

    Returns:
        Losses of each step as means over the processes, gradients of the first, and the change of each parameter.
    """
    stepping: nn.Module = Stepping(port.model, processes.average if port.shares_counts else of_one_process)
    if processes.count > 1:
        stepping = distributed(stepping)
    images = range(processes.rank, len(case.images), processes.count)
    truth = port.truth(case)
    found: dict[str, Tensor] = {}
    with full_float32(), short_schedule(port) as before:
        optimizer = port.optimizer()
        for iteration in range(STEPS):
            port.model.zero_grad(set_to_none=True)
            with autocast(port.device.device(), port.precision):
                losses = stepping([case.images[i] for i in images], [truth[i] for i in images], None, True)
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
            means = processes.average(torch.stack([loss.detach() for loss in losses.values()]))
            found |= {f"step {iteration + 1} {name}": one for name, one in zip(losses, means, strict=True)}
            gradients = {
                name: parameter.grad.clone()
                for name, parameter in port.model.named_parameters()
                if parameter.grad is not None
            }
            if iteration == 0:
                found |= {f"gradient of {name}": value for name, value in gradients.items()}
            port.update(optimizer, iteration, port.clipped(gradients))
        changes = {name: p.detach() - before[name] for name, p in port.model.named_parameters()}
    found |= {f"change of {name}": value for name, value in changes.items()}
    return {name: value.detach().cpu() for name, value in found.items()}


def make_port(job: Job, process: int = 0) -> TrainingPort:
    """Make the training of a job on the device of a process."""
    model = create_centernet2(job.network)
    load_weights(model, job.weights)
    device = training_device(job.device)
    port = TrainingPort(device.prepare(copy.deepcopy(model), process), load_recipe("centernet2_1x").solver, device)
    port.precision, port.process = job.precision, process
    for fault in TRAINING_FAULTS:
        if fault.id == job.fault:
            fault.change(port)
    return port


def time_iterations(job: Job, processes: Processes) -> Values:
    """Train on the data set of the job, and return the seconds of each step, and of the wait for images before it."""
    recipe = load_recipe("centernet2_1x")
    augmentation = recipe.augmentation.model_copy(update={"shortest_edges": (EDGE,)})
    solver = scaled_to(recipe.solver, IMAGES * processes.count)
    settings = Settings(
        job.network,
        recipe.model_copy(update={"augmentation": augmentation, "solver": solver}),
        WARM_UP + TIMED,
        precision=job.precision,
        loss_scale=LOSS_SCALE,
    )
    dataset = load_coco(job.data, split=SPLIT)
    device = training_device(job.device)
    training = TwoStageTraining(settings, dataset, COCO_CATEGORY_IDS, device, processes, job.weights)
    seen: list[Iteration] = []
    with TemporaryFolder() as folder, full_float32():
        run(training, Path(folder), observers=[seen.append], saves=False)
    return {
        "seconds": torch.tensor([one.seconds for one in seen]),
        "waits": torch.tensor([one.data_seconds for one in seen]),
    }


def run_job(job: Job, processes: Processes) -> None:
    """Do what a job says as one of several processes; the first writes what was found."""
    if job.kind == "steps":
        found = take_steps(make_port(job, processes.local_rank), load_case(CASE), processes)
    else:
        found = time_iterations(job, processes)
    if processes.is_first:
        with whole_file(job.output) as partial, partial.open("wb") as file:
            np.savez(file, **{name: value.numpy() for name, value in found.items()})  # type: ignore[arg-type]


def main(file: Path) -> None:
    """Join the other processes, and do the job in a file."""
    job = Job.model_validate_json(file.read_bytes())
    processes = from_environment() or Processes()
    device = training_device(job.device)
    device.check()
    with joined(processes, device.device(processes.local_rank)):
        run_job(job, processes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
