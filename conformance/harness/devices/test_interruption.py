"""Ctrl-C while a model loops for ever, and models that ask for more memory than there is."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from conformance.support.default_signals import default_signals
from harness.devices import interruption
from harness.devices.artifact import Artifact
from harness.devices.interruption import Stoppable
from harness.devices.link import InProcess
from harness.devices.onnxruntime import CPU, OnnxRuntimeDevice, run_session, session_spec
from harness.devices.runners import onnxruntime as runner
from harness.errors import HarnessError
from harness.export.load import stated_by

SIDES = [1, 3, 4, 4]
IMAGES = np.zeros(SIDES, np.float32)
SOON_S = 0.2


def value(name: str, kind: int = TensorProto.FLOAT, shape: list[int] = SIDES) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(*nodes: onnx.NodeProto, **tensors: NDArray[np.generic]) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def endless() -> onnx.ModelProto:
    """Make a model that repeats an identity more often than any machine can."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("v")],
        [value("d", TensorProto.BOOL, []), value("w")],
    )
    loop = helper.make_node("Loop", ["most", "go", "x"], ["y"], body=body)
    return model(loop, most=np.array(2**62), go=np.array(True))


def huge() -> onnx.ModelProto:
    """Make a model that asks for 4 TB by a shape that it computes while it runs."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "k"], ["t"]),
        helper.make_node("ConstantOfShape", ["t"], ["z"]),
        helper.make_node("ReduceMax", ["z"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return model(*nodes, k=np.array([2**10, 2**10, 2**9, 2**6]))


def opened(made: onnx.ModelProto) -> Artifact:
    stated = stated_by(made)
    spec = session_spec(stated, made.SerializeToString())
    return Artifact(InProcess(runner, spec), stated.inputs, stated.outputs, 1)


def ctrl_c(after_s: float = SOON_S) -> threading.Timer:
    timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.parametrize("way", ["device", "time", "session"])
def test_ctrl_c_ends_a_model_that_loops_for_ever(way: str) -> None:
    device, artifact = OnnxRuntimeDevice(), opened(endless())
    session = ort.InferenceSession(endless().SerializeToString(), providers=[CPU])
    runs: dict[str, Callable[[], object]] = {
        "device": lambda: device.run(artifact, IMAGES),
        "time": lambda: device.time(artifact, IMAGES, 3),
        "session": lambda: run_session(session, "x", IMAGES),
    }
    with default_signals():  # a shell starts what runs in the background with SIGINT ignored
        timer, began = ctrl_c(), time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            runs[way]()
        timer.join()
    assert time.monotonic() - began < 30  # for ever, without it
    artifact.payload.close()  # type: ignore[attr-defined]


def test_run_that_does_not_stop_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    released = threading.Event()

    def end(status: int) -> None:
        ended.append(status)
        interruption._running.clear()
        released.set()

    monkeypatch.setattr(interruption, "GRACE_S", 0.05)
    monkeypatch.setattr(os, "_exit", end)
    with Stoppable(lambda: None):
        interruption._stop(signal.SIGTERM)
        assert released.wait(10)
    assert ended == [143]


def test_what_does_not_fit_into_memory_is_no_deviation() -> None:
    device, artifact = OnnxRuntimeDevice(), opened(huge())
    session = ort.InferenceSession(huge().SerializeToString(), providers=[CPU])
    with pytest.raises(HarnessError, match="--onnx: the model asks for more memory than there is"):
        device.run(artifact, IMAGES)
    with pytest.raises(HarnessError, match="--onnx: the model asks for more memory than there is"):
        run_session(session, "x", IMAGES)


def test_other_errors_of_the_runtime_say_nothing_of_memory() -> None:
    artifact = opened(model(helper.make_node("Identity", ["x"], ["y"])))
    with pytest.raises(HarnessError, match=r"--onnx: ONNX Runtime cannot run the model: .*Invalid rank"):
        OnnxRuntimeDevice().run(artifact, np.zeros((1, 2), np.float32))
