"""Links: a runner gives the same in this process and in a child, and its errors, crashes and end are known."""

import ast
import importlib.util
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from conformance.support.small_model import SHA256, small_card, small_images, tiny_network
from harness.devices import runners
from harness.devices.base import close_devices, time_batches
from harness.devices.link import Child, ChildError, InProcess
from harness.devices.onnxruntime import OnnxRuntimeDevice, session_spec
from harness.devices.runners import onnxruntime as onnx_runner
from harness.errors import HarnessError
from harness.export import export_standard
from harness.export.load import load_onnx_checked, stated_by

SOURCES = [path for path in Path(runners.__file__).parent.glob("*.py") if path.stem != "__init__"]
VENDORS = {"onnxruntime", "torch"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_runner_is_python_3_8_and_imports_nothing_of_this_project(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported} - {"__future__", "numpy"} - (VENDORS & {source.stem})
    assert roots <= sys.stdlib_module_names
    if source.stem != "serve":
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {"load", "run", "close"} <= functions


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("link") / "model.onnx"
    export_standard(tiny_network(), small_card(), path, batch_size=None, weights_sha256=SHA256)
    return session_spec(stated_by(load_onnx_checked(path)), path)


def test_child_gives_the_bits_of_this_process_and_times_beside_the_runner(spec: dict[str, Any]) -> None:
    images = small_images(2)
    here, there = InProcess(onnx_runner, spec), Child("device 'x'", onnx_runner, spec)
    assert here.facts == there.facts == {"provider": "CPUExecutionProvider"}
    expected, found = here.run(images), there.run(images)
    assert list(found) == list(expected) == ["hm", "wh", "reg"]
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
        assert (found[name].dtype, found[name].flags.writeable) == (values.dtype, True)
    for link in (here, there):
        assert len(link.time(images, 3)) == 3
        assert min(link.time(images, 2)) > 0
        link.close()
        link.close()
    with pytest.raises(HarnessError, match="device 'x' is closed"):
        there.run(images)


def runner(path: Path, body: str) -> ModuleType:
    """Write and import a runner that loads anything and runs `body`."""
    lines = ["import os, signal, sys", "class Handle: facts = {}", "def load(spec): return Handle()"]
    lines += ["def close(handle): pass", "def run(handle, images):", f"    {body}", ""]
    path.write_text("\n".join(lines))
    spec = importlib.util.spec_from_file_location("unruly", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("os._exit(0)", HarnessError, r"device 'x': its process ended with status 0 \(run\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", HarnessError, "its process ended with signal SIGKILL"),
        ("sys.exit()", HarnessError, "device 'x' raised builtins.SystemExit"),
        ("raise KeyError('bus')", ChildError, "device 'x': KeyError: 'bus'"),
        ("return {'hm': object()}", ChildError, "TypeError: a object, and not a NumPy array"),
        (
            "os.closerange(0, 64); signal.pause()",
            HarnessError,
            r"device 'x': its process closed its connection without ending, and was ended \(run\)",
        ),
    ],
)
def test_runner_that_fails_or_ends_is_an_error_that_names_the_device(
    tmp_path: Path, body: str, kind: type[Exception], message: str
) -> None:
    link = Child("device 'x'", runner(tmp_path / "unruly.py", body), {})
    with pytest.raises(kind, match=message):
        link.run(np.zeros(1))
    link.close()


def test_array_of_objects_crosses_as_such(tmp_path: Path) -> None:
    """The check of the outputs then says which is wrong, as it does in process."""
    link = Child("device 'x'", runner(tmp_path / "unruly.py", "return {'hm': images.astype(object)}"), {})
    found = link.run(np.zeros((2, 3)))["hm"]
    assert (found.dtype, found.shape) == (np.dtype(object), (2, 3))
    link.close()


def test_seconds_are_taken_in_the_runner_and_whoever_opens_closes(spec: dict[str, Any]) -> None:
    device, other = OnnxRuntimeDevice(), OnnxRuntimeDevice()
    link = device.open(onnx_runner, spec)
    stated = stated_by(load_onnx_checked(Path(spec["model"])))
    timed = {"time": lambda handle, images, rounds: [float(rounds)]}
    link.runner = type("Timed", (), {**vars(onnx_runner), **timed})  # as of a runtime with a clock of its own
    artifact = type(stated)(link, stated.inputs, stated.outputs, None)
    assert time_batches(device, artifact, small_images(1), 7) == [7.0]
    close_devices([other, device])
    assert link.handle is None


BUSY = """
import importlib.util, os, sys
from pathlib import Path
import numpy as np
from harness.devices.link import Child
from harness.run.signals import received_signals
spec = importlib.util.spec_from_file_location("busy", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with received_signals():
    Child("device 'x'", module, {}).run(np.zeros(1))
"""
WITHOUT_END = "import ctypes, subprocess; pipe = os.open({!r}, os.O_WRONLY); os.set_inheritable(pipe, True); "
WITHOUT_END += (
    "subprocess.Popen(['sleep', '600'], close_fds=False); os.write(pipe, b'.'); ctypes.PyDLL(None).sleep(600)"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_child_that_is_busy_outside_python_ends_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    """As a driver that hangs, and with a process that it has started; a pipe shows whether one of them is left."""
    pipe, script = tmp_path / "pipe", tmp_path / "busy.py"
    os.mkfifo(pipe)
    runner(script, WITHOUT_END.format(str(pipe)))
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    with subprocess.Popen([sys.executable, "-c", BUSY, script], stderr=subprocess.DEVNULL) as ours:
        seen = [select.select([reader], [], [], 30)[0] and os.read(reader, 1)]
        ours.send_signal(number)
        seen += [select.select([reader], [], [], 10)[0] and os.read(reader, 1)]
        ours.kill()
    os.close(reader)
    assert seen == [b".", b""]


def test_what_a_child_has_started_ends_when_it_is_closed(tmp_path: Path) -> None:
    body = "import subprocess; return {'pid': images * 0 + subprocess.Popen(['sleep', '600']).pid}"
    link = Child("device 'x'", runner(tmp_path / "starting.py", body), {})
    started = int(link.run(np.zeros(1))["pid"][0])
    os.kill(started, 0)
    link.close()
    deadline = time.monotonic() + 5
    while _runs(started) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(started)


def _runs(process: int) -> bool:
    """Tell whether a process is there that is not dead and unburied."""
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
