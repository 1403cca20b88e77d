"""A stand-in for pymlir, tpu_mlir's interpreter, on the models that the stand-ins of its other tools leave."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

ROUNDED = 1 / 256
"""Step to which an int8 model rounds its outputs."""


def set_mem_mode(mode: str) -> None:
    """Keep the value of every tensor."""
    assert mode == "value_mem"


class module:
    """A model, before or after it was lowered."""

    def load(self, path: str) -> None:
        """Read the model that the transform or the deployment left."""
        weights = Path(path).with_name(f"{Path(path).stem}_weights.npz")
        if weights.exists():
            with zipfile.ZipFile(weights) as kept:
                model, stated = kept.read("model.onnx"), json.loads(kept.read("model.json"))
        else:
            model, stated = Path("model.onnx").read_bytes(), json.loads(Path("model.json").read_text())
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._called: dict[str, str] = stated["called"]
        self._int8 = "_int8_" in path
        self._values: dict[str, NDArray[Any]] = {}
        self.input_names = [stated["input"][0]]
        self.output_names = list(self._called.values())
        self.all_tensor_names = [*self.input_names, *self.output_names]

    def set_tensor(self, name: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
        """Take the images."""
        assert values.shape == shape
        self._values = {name: values}

    def invoke(self) -> None:
        """Compute every tensor."""
        found = self._session.run(list(self._called), self._values)
        for name, values in zip(self._called.values(), found, strict=True):
            self._values[name] = np.round(values / ROUNDED) * np.float32(ROUNDED) if self._int8 else values

    def get_tensor(self, name: str) -> NDArray[Any]:
        """The value of a tensor, int8 ones with their scale applied."""
        return self._values[name]
