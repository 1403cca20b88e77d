"""Stand-ins for what runs an om in a Python process: ais_bench's session and pyACL, over the stand-in's own om.

Both take arrays by their address alone, as the real ones do: what is not contiguous is read as it lies in memory.
"""

import ctypes
import importlib.machinery
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.support.stand_ins.cann import Om

Array = NDArray[Any]


def module(name: str, content: Mapping[str, object] | None = None) -> types.ModuleType:
    """A module that can be looked for as if it were installed."""
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(made).update(content or {})
    return made


class InferSession:
    """ais_bench's session.

    Args:
        device_id: Number of the chip.
        model_path: The om.
    """

    reversed_outputs = False
    """True if the om has its outputs in another order than requested, which their names show."""

    def __init__(self, device_id: int, model_path: str) -> None:
        self.device_id = device_id
        try:
            self.om = Om(model_path)
        except SystemExit as error:
            raise RuntimeError("[-1][ACL: general failure] load model failed, ret: 500002") from error

    def get_inputs(self) -> list[types.SimpleNamespace]:
        size = self.om.input_bytes
        return [types.SimpleNamespace(name="input", shape=self.om.shape, datatype=0, size=size, realsize=size)]

    def get_outputs(self) -> list[types.SimpleNamespace]:
        names = [f"{node}:{name}" for node, name in zip(self.om.stated["nodes"], ("hm", "wh", "reg"), strict=True)]
        return [types.SimpleNamespace(name=name) for name in self._ordered(names)]

    def infer(self, feeds: Sequence[Array]) -> list[Array]:
        """Run what lies at the address."""
        (given,) = feeds
        base = given
        while isinstance(base.base, np.ndarray):
            base = base.base
        return self._ordered(self.om.execute(ctypes.string_at(base.ctypes.data, self.om.input_bytes)))

    def _ordered(self, values: list[Any]) -> list[Any]:
        return values[::-1] if self.reversed_outputs else values


class Acl:
    """pyACL: numbers for handles, a status with every answer, memory at addresses."""

    def __init__(self) -> None:
        self.fails: dict[str, int] = {}
        """The calls that fail, and their status."""
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.models: dict[int, Om] = {}
        """By the number of the model, and of its description."""
        self.rt = types.SimpleNamespace(
            set_device=lambda number: self._status("set_device"),
            create_context=lambda number: (1, self._status("create_context")),
            malloc=self._malloc,
            memcpy=self._memcpy,
            set_context=lambda context: self._status("set_context"),
            free=self._free,
            destroy_context=lambda context: self._status("destroy_context"),
            reset_device=lambda number: self._status("reset_device"),
        )
        self.mdl = types.SimpleNamespace(
            load_from_file=self._load,
            create_desc=lambda: len(self.models) + 100,
            get_desc=self._describe,
            get_num_inputs=lambda description: 1,
            get_num_outputs=lambda description: 3,
            get_input_size_by_index=lambda description, index: self.models[description].input_bytes,
            get_output_size_by_index=lambda description, index: 64 + 4 * int(np.prod(self._shape(description, index))),
            get_output_data_type=lambda description, index: 0,
            get_output_dims=self._dims,
            create_dataset=list,
            add_dataset_buffer=lambda dataset, buffer: (dataset.append(buffer), 0),
            execute=self._execute,
            unload=lambda model: self._status("unload"),
            destroy_desc=lambda description: self._status("destroy_desc"),
            destroy_dataset=lambda dataset: self._status("destroy_dataset"),
        )

    def init(self) -> int:
        return self._status("init")

    def finalize(self) -> int:
        return self._status("finalize")

    def destroy_data_buffer(self, buffer: tuple[int, int]) -> int:
        return self._status("destroy_data_buffer")

    def create_data_buffer(self, pointer: int, size: int) -> tuple[int, int]:
        return pointer, size

    def _status(self, call: str) -> int:
        self.calls.append(call)
        return self.fails.get(call, 0)

    def _load(self, path: str) -> tuple[int, int]:
        status, number = self._status("load_from_file"), len(self.models)
        if not status:
            self.models[number] = Om(path)
        return number, status

    def _describe(self, description: int, model: int) -> int:
        self.models[description] = self.models[model]
        return self._status("get_desc")

    def _malloc(self, size: int, policy: int) -> tuple[int, int]:
        memory = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory), self._status("malloc")

    def _free(self, pointer: int) -> int:
        del self.memory[pointer]
        return self._status("free")

    def _memcpy(self, target: int, room: int, source: int, count: int, kind: int) -> int:
        assert count <= room
        assert kind in (1, 2)
        ctypes.memmove(target, source, count)
        return self._status("memcpy")

    def _shape(self, description: int, index: int) -> list[int]:
        om = self.models[description]
        return [om.batch, 80 if index == 0 else 2, *(side // 4 for side in om.shape[2:])]

    def _dims(self, description: int, index: int) -> tuple[dict[str, Any], int]:
        name = f"{self.models[description].stated['nodes'][index]}:{index}"
        return {"name": name, "dimCount": 4, "dims": self._shape(description, index)}, 0

    def _execute(self, model: int, inputs: list[tuple[int, int]], outputs: list[tuple[int, int]]) -> int:
        status = self._status("execute")
        if not status:
            found = self.models[model].execute(ctypes.string_at(*inputs[0]))
            for values, (pointer, _) in zip(found, outputs, strict=True):
                ctypes.memmove(pointer, np.ascontiguousarray(values).ctypes.data, values.nbytes)
        return status
