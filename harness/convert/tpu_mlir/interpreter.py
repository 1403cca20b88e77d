"""tpu_mlir's interpreter: the arithmetic of a chip on the host, operator by operator.

It is a hundred times as fast as the simulator, and the vendor's own reference for its bmodels. The compiler's tiling
and scheduling are not part of it.
"""

from __future__ import annotations

import contextlib
import subprocess
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.convert.guarded import Guarded
from harness.convert.process import tool_failed
from harness.convert.tpu_mlir.environment import Environment
from harness.files.temporary import TemporaryFolder
from harness.types import Outputs

WORKER = """\
import sys
import numpy as np
import tpu_mlir
import pymlir

model, talk = sys.argv[1], sys.stdout
sys.stdout = sys.stderr
pymlir.set_mem_mode("value_mem")
module = pymlir.module()
module.load(model)
print("ready", file=talk, flush=True)
for line in sys.stdin:
    images = np.load(line.strip() + "/in.npy")
    module.set_tensor(module.input_names[0], images, images.shape)
    module.invoke()
    outputs = {name: np.array(module.get_tensor(name), np.float32) for name in module.output_names}
    np.savez(line.strip() + "/out.npz", **outputs)
    print("done", file=talk, flush=True)
"""
"""Program for tpu_mlir's own environment: one process for all batches."""


class Interpreter:
    """A lowered model in a process of its own, until `close`.

    Args:
        environment: The environment with tpu_mlir.
        model: The ``*_tpu.mlir``, its weights beside it.

    Raises:
        HarnessError: The interpreter does not start.
    """

    def __init__(self, environment: Environment, model: Path) -> None:
        self.model = model
        self._folder = TemporaryFolder()
        self._log = Path(self._folder.name) / "interpreter.log"
        command: list[str | Path] = [environment.tool("python"), "-c", WORKER, model.name]
        pipe = subprocess.PIPE
        with self._log.open("wb") as log:
            guarded = Guarded(command, model.parent, environment.variables(), stdin=pipe, stdout=pipe, stderr=log)
        self._process = guarded.process
        # Also where nobody closes it: no process outlives this object.
        self.close = weakref.finalize(self, _end, guarded, self._folder)
        self._expect("ready")

    def run(self, images: NDArray[np.generic]) -> Outputs:
        """Compute the outputs of one batch, by the lowered model's own names.

        Raises:
            HarnessError: The interpreter fails.
        """
        folder = Path(self._folder.name)
        np.save(folder / "in.npy", images)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # the process has ended: its log says why
            self._process.stdin.write(f"{folder}\n".encode())
            self._process.stdin.flush()
        self._expect("done")
        with np.load(folder / "out.npz") as saved:
            outputs: dict[str, Any] = {name: saved[name] for name in saved.files}
        return outputs

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        # tpu_mlir's own native code writes to the same stream.
        for line in self._process.stdout:
            if line.strip().endswith(word.encode()):
                return
        status = self._process.wait()
        raise tool_failed("tpu_mlir's interpreter", f"ended with status {status}", self._log, self.model)


def _end(guarded: Guarded, folder: TemporaryFolder) -> None:
    guarded.end()
    guarded.process.communicate()
    folder.cleanup()
