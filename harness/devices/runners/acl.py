"""Runner of Ascend's chips: pyACL, the binding of CANN's own runtime."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

TYPES = {0: np.float32, 1: np.float16, 2: np.int8, 4: np.uint8}
"""Types of images and heads by ACL's numbers."""
TO_DEVICE, TO_HOST = 1, 2
Buffers = Tuple[Any, List[Tuple[int, int]]]
"""A data set, and address and size of each of its buffers."""
_loaded: List[Any] = []
"""Handles that are open: ACL is initialised once a process, and finalised with the last of them."""


class AclError(Exception):
    """A call of pyACL that failed.

    Attributes:
        call: Its name.
        status: The code that it returned.
    """

    def __init__(self, call: str, status: int) -> None:
        super().__init__(f"{call} returned {status}")
        self.call, self.status = call, status


class Loaded:
    """A model on a device, with the buffers of its inputs and outputs and all that must be freed."""

    def __init__(self, acl: Any) -> None:
        self.acl, self.stack = acl, ExitStack()
        self.facts: Dict[str, Any] = {}
        self.context: Any = None
        self.model: Any = None
        self.description: Any = None
        self.inputs: Buffers = (None, [])
        self.outputs: Buffers = (None, [])

    def got(self, call: str, answer: Tuple[Any, int]) -> Any:
        """Return the value of an answer (value, status)."""
        self.check(call, answer[1])
        return answer[0]

    def check(self, call: str, status: int) -> None:
        """Raise AclError for a status other than 0."""
        if status != 0:
            raise AclError(call, status)

    def freed(self, free: Callable[..., object], *arguments: Any) -> None:
        """Have something freed on close, after all that was made later."""
        self.stack.callback(free, *arguments)


def load(spec: Dict[str, Any]) -> Loaded:
    """Load an om, with buffers for its inputs and outputs.

    Args:
        spec: Path of the ``om`` and number of the ``device``.

    Raises:
        AclError: A call fails; all that was made before it is freed.
    """
    handle = Loaded(importlib.import_module("acl"))
    try:
        _open(handle, spec["om"], spec["device"])
    except BaseException:
        handle.stack.close()
        raise
    return handle


def _open(handle: Loaded, om: str, device: int) -> None:
    acl = handle.acl
    if not _loaded:
        handle.check("acl.init", acl.init())
    _loaded.append(handle)
    handle.freed(_leave, handle)
    handle.check("acl.rt.set_device", acl.rt.set_device(device))
    handle.freed(acl.rt.reset_device, device)
    handle.context = handle.got("acl.rt.create_context", acl.rt.create_context(device))
    handle.freed(acl.rt.destroy_context, handle.context)
    handle.model = handle.got("acl.mdl.load_from_file", acl.mdl.load_from_file(om))
    handle.freed(acl.mdl.unload, handle.model)
    handle.description = acl.mdl.create_desc()
    handle.freed(acl.mdl.destroy_desc, handle.description)
    handle.check("acl.mdl.get_desc", acl.mdl.get_desc(handle.description, handle.model))
    handle.inputs = _buffers(handle, acl.mdl.get_num_inputs, acl.mdl.get_input_size_by_index)
    handle.outputs = _buffers(handle, acl.mdl.get_num_outputs, acl.mdl.get_output_size_by_index)
    names = [_dims(handle, place)["name"] for place in range(len(handle.outputs[1]))]
    handle.facts = {"input_bytes": handle.inputs[1][0][1], "output_names": names}


def _leave(handle: Loaded) -> None:
    _loaded.remove(handle)
    if not _loaded:
        handle.acl.finalize()


def _buffers(handle: Loaded, count: Callable[[Any], int], size_of: Callable[[Any, int], int]) -> Buffers:
    """Make a data set with a buffer for each input or output."""
    acl, places = handle.acl, []
    dataset = acl.mdl.create_dataset()
    handle.freed(acl.mdl.destroy_dataset, dataset)
    for place in range(count(handle.description)):
        size = size_of(handle.description, place)
        pointer = handle.got("acl.rt.malloc", acl.rt.malloc(size, 0))
        handle.freed(acl.rt.free, pointer)
        buffer = acl.create_data_buffer(pointer, size)
        handle.freed(acl.destroy_data_buffer, buffer)
        handle.got("acl.mdl.add_dataset_buffer", acl.mdl.add_dataset_buffer(dataset, buffer))
        places.append((pointer, size))
    return dataset, places


def _dims(handle: Loaded, place: int) -> Dict[str, Any]:
    dims: Dict[str, Any] = handle.got(
        "acl.mdl.get_output_dims", handle.acl.mdl.get_output_dims(handle.description, place)
    )
    return dims


def run(handle: Loaded, images: Any) -> Dict[str, Any]:
    """Run one batch; the outputs come by their place among the om's.

    Raises:
        AclError: A call fails.
    """
    acl, contiguous = handle.acl, np.ascontiguousarray(images)
    (pointer, size), *_ = handle.inputs[1]
    if contiguous.nbytes != size:
        raise ValueError(f"a batch of {contiguous.nbytes} bytes")
    # Another model of this process may have made its own context the current one.
    handle.check("acl.rt.set_context", acl.rt.set_context(handle.context))
    handle.check("acl.rt.memcpy", acl.rt.memcpy(pointer, size, contiguous.ctypes.data, size, TO_DEVICE))
    handle.check("acl.mdl.execute", acl.mdl.execute(handle.model, handle.inputs[0], handle.outputs[0]))
    found = {}
    for place, (pointer, _) in enumerate(handle.outputs[1]):
        kind = TYPES[acl.mdl.get_output_data_type(handle.description, place)]
        output = np.empty(_dims(handle, place)["dims"], kind)
        copied = acl.rt.memcpy(output.ctypes.data, output.nbytes, pointer, output.nbytes, TO_HOST)
        handle.check("acl.rt.memcpy", copied)
        found[str(place)] = output
    return found


def close(handle: Loaded) -> None:
    """Free buffers, data sets, model, context and device; after the last model, ACL itself."""
    handle.check("acl.rt.set_context", handle.acl.rt.set_context(handle.context))
    handle.stack.close()
