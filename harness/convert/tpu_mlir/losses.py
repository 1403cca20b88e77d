"""Where a quantised model loses what its outputs lack: operator by operator, against the same graph in float."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.convert.process import run_tool
from harness.convert.tpu_mlir.environment import Environment
from harness.convert.tpu_mlir.graph import Graph

IMAGES = 4
NAMED = 8
MUCH = 0.1
"""Of the size of a tensor; half of the largest where all are less."""
RESULT = "errors.json"

WORKER = """\
import json
import sys
from pathlib import Path
import numpy as np
import tpu_mlir
import pymlir

floating, quantised, samples, result = sys.argv[1:]
pymlir.set_mem_mode("value_mem")
models = []
for path in (floating, quantised):
    model = pymlir.module()
    model.load(path)
    models.append(model)
shared = [name for name in models[0].all_tensor_names if name in set(models[1].all_tensor_names)]
sums = {name: [0.0, 0.0] for name in shared}
for path in sorted(Path(samples).glob("*.npy")):
    images = np.load(path)
    for model in models:
        model.set_tensor(model.input_names[0], images, images.shape)
        model.invoke()
    for name in shared:
        right, found = (np.array(model.get_tensor(name), np.float64).ravel() for model in models)
        if right.size == found.size:
            sums[name][0] += float(((found - right) ** 2).sum())
            sums[name][1] += float((right**2).sum())
Path(result).write_text(json.dumps({name: (of / all) ** 0.5 for name, (of, all) in sums.items() if all > 0}))
"""
"""Runs in tpu_mlir's own environment: the error of every tensor that both have, as a share of its size."""


def tensor_errors(
    environment: Environment,
    folder: Path,
    floating: str,
    quantised: str,
    inputs: Iterable[NDArray[np.generic]],
    what: str,
) -> dict[str, float]:
    """How far each tensor of a quantised model is from the float one, root mean square, as a share of its size.

    Args:
        environment: Where tpu_mlir is.
        folder: Where both models are; the inputs are written there, too.
        floating: The model before it was lowered.
        quantised: The lowered one.
        inputs: Batches as the model takes them.
        what: For messages.

    Raises:
        HarnessError: The interpreter fails.
    """
    samples = folder / "losses"
    samples.mkdir()
    for number, images in enumerate(inputs):
        np.save(samples / f"{number:05}.npy", images)
    command: list[str | Path] = [environment.tool("python"), "-c", WORKER, floating, quantised, samples.name, RESULT]
    run_tool(command, folder, environment.variables(), what)
    errors: dict[str, float] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return errors


def own_losses(graph: Graph, errors: Mapping[str, float]) -> dict[str, float]:
    """What operators add to the error of what they are given: the first in the network that add much, at most `NAMED`.

    The errors of an operator's inputs and its own are taken for independent, so their squares add up; what passes
    through unchanged adds nothing. What has little of its own can still multiply what it is given, as a projection
    does whose terms cancel, so of those that add much the first ones come first: on mb3_centernet, the first three
    blocks in float bring back five points of AP, the operators with the largest numbers none.

    Args:
        graph: Of the model, before it was lowered.
        errors: From `tensor_errors`.
    """
    added: dict[str, float] = {}
    for operation in graph.operations.values():
        given = [
            errors.get(graph.operations[name].name, 0.0) for name in operation.operands if name in graph.operations
        ]
        own = errors.get(operation.name, 0.0) ** 2 - max(given, default=0.0) ** 2
        if own > 0:
            added[operation.name] = own**0.5
    much = min(MUCH, max(added.values(), default=0.0) / 2)
    return dict([(name, loss) for name, loss in added.items() if loss >= much][:NAMED])
