"""Chips of Sophon by tpu_mlir's interpreter: the operators that were compiled for the chip, computed on the host."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from harness.convert.tpu_mlir.compile import convert
from harness.convert.tpu_mlir.environment import VERSION, find_environment
from harness.convert.tpu_mlir.interpreter import Interpreter
from harness.devices.artifact import Artifact, Exported, Findings, TensorSpec
from harness.devices.sophon import SophonDevice, by_name, counted, own_name
from harness.types import Outputs


@dataclass(frozen=True, slots=True)
class Interpreted:
    """A lowered model in the interpreter, and its own name of each output of the ONNX."""

    interpreter: Interpreter
    outputs: dict[str, str]


class EmulatedSophon(SophonDevice):
    """Hundreds of images in the time that the simulator takes for a few; tests hold it to the simulator."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._interpreters: list[Interpreter] = []

    def check(self) -> None:
        """Raise HarnessError, with the command that installs it, where tpu_mlir is not there."""
        find_environment()

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Lower the exported model to the operators of the chip, and start the interpreter on them.

        Raises:
            HarnessError: tpu_mlir is not installed or fails.
        """
        environment, order = find_environment(), self.order(exported, batch_size, precision, lowered=True)
        model, record = convert(environment, order)
        interpreter = Interpreter(environment, model)
        self._interpreters.append(interpreter)
        # It states nothing about its outputs; what it returns for an empty image does.
        found = interpreter.run(np.zeros(record.shape, np.float32))
        names = {name: own_name(base, list(found), model) for name, base in record.outputs.items()}
        return Artifact(
            Interpreted(interpreter, names),
            (TensorSpec(record.input, record.shape, "float32"),),
            tuple(TensorSpec(name, found[own].shape, str(found[own].dtype)) for name, own in names.items()),
            record.shape[0],
            {
                "chip": self.chip,
                "precision": precision,
                "kept in float": f"{len(record.float_operators)} operators" if precision != "fp32" else "all",
                "host operators": counted(record.host_operators),
                "interpreter": f"tpu_mlir {VERSION}",
            },
            Findings(record.host_operators, losses=record.losses),
        )

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Interpret one batch."""
        loaded = cast(Interpreted, artifact.payload)
        return by_name(artifact, loaded.outputs, loaded.interpreter.run(images))

    def close(self) -> None:
        """End every interpreter that `convert` started."""
        interpreters, self._interpreters = self._interpreters, []
        with ExitStack() as stack:
            for interpreter in interpreters:
                stack.callback(interpreter.close)
