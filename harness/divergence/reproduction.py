"""A reproduction that a vendor can run: one layer with its inputs and expected outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from harness.divergence.expected import Arrays
from harness.files import whole_folder

MODEL, INPUTS, EXPECTED, CHECK, README, WHOLE = (
    "model.onnx",
    "inputs.npz",
    "expected.npz",
    "check.py",
    "README.md",
    "whole_model.onnx",
)

SCRIPT = '''\
"""Run model.onnx by ONNX Runtime on inputs.npz, and hold its outputs to expected.npz. Needs onnxruntime and numpy."""

import sys

import numpy as np
import onnxruntime

ALLOWED = {allowed!r}

inputs, expected = (dict(np.load(file)) for file in ("inputs.npz", "expected.npz"))
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
names = list(expected)
worst = 0
for name, output in zip(names, session.run(names, inputs)):
    difference = float(np.abs(output.astype(np.float64) - expected[name]).max())
    verdict = "as expected" if difference <= ALLOWED[name] else "NOT as expected"
    print(f"{{name}}: largest difference {{difference:.3g}}, allowed {{ALLOWED[name]:.3g}}: {{verdict}}")
    worst = max(worst, not difference <= ALLOWED[name])
sys.exit(worst)
'''

TEXT = """\
# {layer}

{finding}

| file | what it is |
| --- | --- |
| `{model}` | {nodes} of the model: {operators} |
| `{inputs}` | what goes in: {given} |
| `{expected}` | what should come out: {outputs} |
| `{check}` | runs the first on the second by ONNX Runtime, and compares with the third |
{whole}
Found on device `{device}` ({execution}), {precision}. Run it with ONNX Runtime alone:

```shell
pip install onnxruntime numpy
python {check}
```

{reading}
"""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """Contents of the folder of a reproduction.

    Attributes:
        model: The layer as a model of its own.
        inputs: Inputs by name.
        expected: Right outputs by name.
        allowed: Largest allowed absolute difference of each output.
        layer: Name of the layer in PyTorch.
        finding: The finding, in a sentence or two.
        reading: Conclusion from the run by ONNX Runtime.
        device: Name of the device, its execution and the precision.
        whole: The user's whole model, if it was asked for.
    """

    model: onnx.ModelProto
    inputs: Arrays
    expected: Arrays
    allowed: dict[str, float]
    layer: str
    finding: str
    reading: str
    device: tuple[str, str, str]
    whole: Path | None = None

    def write(self, folder: Path) -> None:
        """Write the folder, whole or not at all.

        Raises:
            HarnessError: The folder exists and is not empty, or cannot be written.
        """
        with whole_folder(folder) as partial:
            onnx.save(self.model, partial / MODEL)
            for name, arrays in ((INPUTS, self.inputs), (EXPECTED, self.expected)):
                saved: dict[str, Any] = dict(arrays)
                np.savez(partial / name, **saved)
            (partial / CHECK).write_text(SCRIPT.format(allowed=self.allowed), encoding="utf-8")
            (partial / README).write_text(self._readme(), encoding="utf-8")
            if self.whole is not None:
                (partial / WHOLE).write_bytes(self.whole.read_bytes())

    def _readme(self) -> str:
        nodes = self.model.graph.node
        device, execution, precision = self.device
        return TEXT.format(
            layer=self.layer,
            finding=self.finding,
            reading=self.reading,
            model=MODEL,
            inputs=INPUTS,
            expected=EXPECTED,
            check=CHECK,
            nodes=f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}",
            operators=", ".join(node.op_type for node in nodes),
            given=_shapes(self.inputs),
            outputs=_shapes(self.expected),
            whole=f"| `{WHOLE}` | the whole model, as it was asked for |\n" if self.whole else "",
            device=device,
            execution=execution,
            precision=precision,
        )


def _shapes(arrays: Arrays) -> str:
    return ", ".join(f"`{name}` {list(array.shape)} {array.dtype}" for name, array in arrays.items())
