"""Losses of a quantised model, operator by operator, against the same graph in float."""

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
"""Batches that are compared."""
NAMED = 8
"""Most losses that are reported."""
MUCH = 0.1
"""Least loss that is reported, as a share of the size of a tensor; half of the largest loss if all are smaller."""
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
"""Program for tpu_mlir's own environment: the error of every tensor that both models have, as a share of its size."""


def tensor_errors(
    environment: Environment,
    folder: Path,
    floating: str,
    quantised: str,
    inputs: Iterable[NDArray[np.generic]],
    what: str,
) -> dict[str, float]:
    """Measure the error of each tensor of a quantised model, root mean square, as a share of its size.

    Args:
        environment: The environment with tpu_mlir.
        folder: Folder of both models; the inputs are written there, too.
        floating: The model before it was lowered.
        quantised: The lowered one.
        inputs: Batches of network inputs.
        what: Description of the step, for messages.

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
    """Find the first operators of the network that add much error to that of their inputs, at most `NAMED`.

    An operator's own error and that of its inputs are taken as independent: their squares add up. An operator that
    passes its input through adds nothing.

    The losses are in the order of the network, not of their size. An operator with a small error of its own can still
    multiply that of its inputs, as a projection does whose terms cancel. On mb3_centernet, the first three blocks in
    float bring back five points of AP; the operators with the largest losses bring back none.

    Args:
        graph: Graph of the model, before it was lowered.
        errors: Errors from `tensor_errors`.
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
