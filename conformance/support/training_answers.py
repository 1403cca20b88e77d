"""Answers to a training case, as a port writes them with the `dump.py` that was handed out."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.cards import load_recipe
from harness.centernet2.cases import Case
from harness.centernet2.head import FirstStage
from harness.centernet2.model import create_centernet2
from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import SHORT
from harness.run.training.session import CASES

Change = Callable[[TrainingPort], None]


def handed_out_dump(case: Path) -> Any:  # noqa: ANN401 - a module that is not part of the suite
    """Import the `dump.py` of a case, as a port's script does."""
    spec = importlib.util.spec_from_file_location("handed_out_dump", case / "dump.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answering_port(case: Path, change: Change, precision: str = "fp32") -> TrainingPort:
    """Make a port from the weights of a case alone, with a change, in the case's schedule."""
    model = create_centernet2("narrow")
    model.load_state_dict(torch.load(case / "weights.pth", weights_only=True)["model"])
    port = TrainingPort(model, load_recipe("centernet2_1x").solver.model_copy(update=SHORT), precision=precision)
    change(port)
    return port


def batch_of(folder: Path) -> Case:
    """Read a batch that was handed out."""
    with np.load(folder / "batch.npz") as stored:
        count = sum(name.startswith("image") for name in stored.files)
        return Case(*([stored[f"{kind}{i}"] for i in range(count)] for kind in ("image", "boxes", "classes")))


def write_answers(
    case: Path,
    answers: Path,
    change: Change,
    *,
    cases: tuple[str, ...] = CASES,
    iterations: int = 3,
    with_layers: bool = True,
    precision: str = "fp32",
) -> None:
    """Run the steps of a case on a port, and dump what it gives.

    Args:
        case: What was handed out.
        answers: Folder to write.
        change: Makes the port wrong.
        cases: Batches that are run.
        iterations: Of the first batch; of the others, one.
        with_layers: Whether features, heads and proposals are added.
        precision: Of the layers.
    """
    dump = handed_out_dump(case)
    for name in cases:
        port, batch = answering_port(case, change, precision), batch_of(case / name)
        writer, optimizer = dump.Dump(str(answers / name), precision=precision), port.optimizer()
        for iteration in range(iterations if name == cases[0] else 1):
            losses, gradients = port.losses_and_gradients(batch)
            for key, parameter in port.model.named_parameters():
                parameter.grad = gradients.get(key)
            writer.after_backward(port.model, losses)
            if with_layers and port.shares_counts:
                step = port.step(batch)
                writer.add("features", step.features)
                writer.add("logits", step.heads.logits)
                writer.add("sides", step.heads.sides)
                writer.add("proposals", [torch.cat((p.boxes, p.scores[:, None]), dim=1) for p in step.proposals])
            port.update(optimizer, iteration, port.clipped(gradients))
            writer.after_step(port.model)
    port = answering_port(case, change, precision)
    dump.Dump(str(answers / "idle"), precision=precision).idle_step(port.model, port.optimizer())
    with np.load(case / "duplicated_heads" / "heads.npz") as stored:
        maps = [[torch.from_numpy(stored[f"{kind}{level}"]) for level in range(5)] for kind in ("logits", "sides")]
    writer = dump.Dump(str(answers / "duplicated_heads"), precision=precision)
    writer.add(
        "proposals", [torch.cat((p.boxes, p.scores[:, None]), 1) for p in port.model.proposals(FirstStage(*maps))]
    )
    writer.write()
