"""Child's end of a link: answers requests with plain data, whatever the code behind it does.

Its source is sent to the child. A request is a pair of method and arguments. An answer is ``("ok", value)`` or
``("error", facts)``. Arrays cross as dtype, shape and bytes, those of objects as their shape alone; nothing that
comes back is ever unpickled.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
import traceback
import types
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

ARRAY = "__array__"
OBJECTS = "__objects__"
FIELDS = ("cause", "file", "field", "remedy", "status")
"""Attributes of exceptions that cross with them."""

Methods = Dict[str, Callable[..., Any]]


def pack(value: Any) -> Any:
    """Turn a value of dicts, sequences, scalars and arrays into what a channel carries.

    Raises:
        TypeError: A part is of another type.
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:  # no output of a model: who looks at the outputs says so
            return (OBJECTS, tuple(value.shape))
        return (ARRAY, value.dtype.str, tuple(value.shape), value.tobytes())
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): pack(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [pack(part) for part in value]
    raise TypeError(f"a {type(value).__name__}, and not a NumPy array or plain data")


def unpack(value: Any) -> Any:
    """Turn what a channel carried into dicts, lists, scalars and writable arrays."""
    if isinstance(value, tuple) and value and value[0] == ARRAY:
        return np.frombuffer(bytearray(value[3]), np.dtype(value[1])).reshape(value[2])
    if isinstance(value, tuple) and value and value[0] == OBJECTS:
        return np.broadcast_to(np.empty((), object), value[1])
    if isinstance(value, dict):
        return {key: unpack(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [unpack(part) for part in value]
    return value


def timed(run: Callable[[Any], object], images: Any, rounds: int) -> List[float]:
    """Return the seconds of each of `rounds` calls of `run` on one batch."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return seconds


def described(error: BaseException) -> Dict[str, Any]:
    """Return the plain facts of an exception: its types, text, arguments, fields and traceback."""
    facts = {name: getattr(error, name, None) for name in FIELDS}
    return {
        "types": [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__],
        "text": str(error),
        "arguments": [part if isinstance(part, (str, int, float)) else None for part in error.args],
        "fields": {name: part if isinstance(part, (str, int)) else None for name, part in facts.items()},
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }


def runner_methods(name: str, source: str) -> Methods:
    """Return the methods of a runner whose source was sent; the child holds one model at a time."""
    module: Any = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    held: Dict[str, Any] = {}

    def load(spec: Dict[str, Any]) -> Dict[str, Any]:
        held["handle"] = module.load(spec)
        return dict(held["handle"].facts)

    def run(images: Any) -> Dict[str, Any]:
        outputs: Dict[str, Any] = module.run(held["handle"], images)
        return outputs

    def time_rounds(images: Any, rounds: int) -> List[float]:
        own: Any = getattr(module, "time", None)
        seconds: List[float] = own(held["handle"], images, rounds) if callable(own) else timed(run, images, rounds)
        return seconds

    def close() -> None:
        if "handle" in held:
            module.close(held.pop("handle"))

    return {"load": load, "run": run, "time": time_rounds, "close": close}


def begin(channel: Any) -> None:
    """Set the child up as its first message says, then answer until the channel closes."""
    first = channel.receive()
    with contextlib.suppress(OSError):  # it leads a group already
        os.setsid()  # what the code here starts is ended with it
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends the child
    if first["path"] is not None:
        sys.path[:], sys.dont_write_bytecode, sys.pycache_prefix = first["path"]
    methods: Methods = {}

    def start() -> Any:
        if first["runner"] is not None:
            methods.update(runner_methods(*first["runner"]))
            return None
        module, function, arguments = first["function"]
        found, told = getattr(importlib.import_module(module), function)(*arguments)
        methods.update(found)
        return told

    channel.send(_answer(start, ()))
    while True:
        try:
            method, arguments = channel.receive()
        except EOFError:
            return
        channel.send(_answer(methods[method], arguments))


def _answer(method: Callable[..., Any], arguments: Any) -> Tuple[str, Any]:
    try:
        return ("ok", pack(method(*unpack(arguments))))
    except BaseException as error:  # a device can neither end nor skip a run
        return ("error", described(error))


if __name__ == "__channelexec__":
    begin(globals()["channel"])
