"""The environment of tpu_mlir: found or asked for, complete or absent, and without the parts that break it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.support.command_line import run
from harness.convert.tpu_mlir import environment as tpu_mlir
from harness.errors import HarnessError

PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-c "*) echo {version}; exit {status};;
"-m venv")
  mkdir -p "$3/bin" "$3/lib/python3.10/site-packages/tpu_mlir/lib/third_party"
  cp "$0" "$3/bin/python";;
"-m pip")
  root=$(dirname "$(dirname "$0")")
  echo "$@" >> "$root/../pip.calls"
  [ -e "$root/../no-network" ] && {{ seq 100; echo "ERROR: no network"; exit 1; }}
  printf '#!/bin/sh\\nexit 0\\n' > "$root/bin/model_transform"
  chmod +x "$root/bin/model_transform"
  for name in libc.so.6 libm.so.6 libpthread.so.0 libprotobuf.so.32; do
    touch "$root/lib/python3.10/site-packages/tpu_mlir/lib/third_party/$name"
  done;;
esac
"""
"""Imitation of the parts of Python 3.10 that an installation needs."""


@pytest.fixture(autouse=True)
def toolchains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the environments; neither uv, pyenv nor a Python 3.10 is on the PATH, or beside this Python."""
    tools = tmp_path / "system"
    tools.mkdir()
    for name in ("sh", "mkdir", "cp", "dirname", "seq", "chmod", "touch"):
        (tools / name).symlink_to(next(Path(d) / name for d in ("/bin", "/usr/bin") if (Path(d) / name).exists()))
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "pythons" / "3.11.4"))
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "toolchains"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def python(path: Path, version: str = "3.10", status: int = 0) -> Path:
    """A program that says to be a Python of some version."""
    return script(path, PYTHON.format(version=version, status=status))


def on_path(*folders: Path) -> None:
    """Put folders first; `toolchains` takes them away again."""
    os.environ["PATH"] = os.pathsep.join([*map(str, folders), os.environ["PATH"]])


def test_python_that_uv_knows_comes_first(tmp_path: Path) -> None:
    known = python(tmp_path / "uv-pythons" / "python3.10")
    python(tmp_path / "bin" / "python3.10")
    script(tmp_path / "bin" / "uv", f'#!/bin/sh\n[ "$1 $2" = "python find" ] && echo {known}\n')
    on_path(tmp_path / "bin")
    assert tpu_mlir.find_python() == known


@pytest.mark.parametrize("answer", ["exit 2", "echo /nowhere/python3.10", "sleep 0"])
def test_uv_without_one_is_no_obstacle(tmp_path: Path, answer: str) -> None:
    script(tmp_path / "bin" / "uv", f"#!/bin/sh\n{answer}\n")
    found = python(tmp_path / "bin" / "python3.10")
    on_path(tmp_path / "bin")
    assert tpu_mlir.find_python() == found


def test_shim_that_refuses_and_wrong_version_are_passed_over_on_the_path(tmp_path: Path) -> None:
    python(tmp_path / "shims" / "python3.10", status=127)
    python(tmp_path / "wrong" / "python3.10", version="3.11")
    right = python(tmp_path / "right" / "python3.10")
    on_path(tmp_path / "shims", tmp_path / "wrong", tmp_path / "right")
    assert tpu_mlir.find_python() == right


def test_python_of_pyenv_is_found_behind_its_shim(tmp_path: Path) -> None:
    python(tmp_path / "bin" / "python3.10", status=127)
    script(tmp_path / "bin" / "pyenv", f'#!/bin/sh\n[ "$1" = root ] && echo {tmp_path / "pyenv"}\n')
    python(tmp_path / "pyenv" / "versions" / "3.11.4" / "bin" / "python3.11", version="3.11")
    right = python(tmp_path / "pyenv" / "versions" / "3.10.14" / "bin" / "python3.10")
    on_path(tmp_path / "bin")
    assert tpu_mlir.find_python() == right


def test_python_beside_the_one_that_runs_is_found(tmp_path: Path) -> None:
    python(tmp_path / "pythons" / "3.10.2" / "bin" / "python3.10", status=1)
    right = python(tmp_path / "pythons" / "cpython-3.10.14-linux" / "bin" / "python3.10")
    assert tpu_mlir.find_python() == right


def test_no_python_is_an_error_that_says_how_to_get_one(toolchains: Path) -> None:
    with pytest.raises(HarnessError, match=r"needs Python 3\.10, and neither uv nor the PATH nor pyenv") as caught:
        tpu_mlir.install()
    for remedy in ("uv python install 3.10", "pyenv install 3.10"):
        assert remedy in (caught.value.remedy or "")
    assert not [path for path in toolchains.iterdir() if path.is_dir()]


def installed(tmp_path: Path) -> tpu_mlir.Environment:
    python(tmp_path / "bin" / "python3.10")
    on_path(tmp_path / "bin")
    return tpu_mlir.install()


def test_environment_is_found_once_it_is_complete(tmp_path: Path, toolchains: Path) -> None:
    with pytest.raises(HarnessError, match="is not installed") as caught:
        tpu_mlir.find_environment()
    assert caught.value.remedy == tpu_mlir.INSTALL
    environment = installed(tmp_path)
    assert environment.root == toolchains / f"tpu_mlir-{tpu_mlir.VERSION}"
    assert tpu_mlir.find_environment() == environment
    assert environment.tool("model_transform").is_file()
    asked = (toolchains / "pip.calls").read_text()
    assert f"tpu_mlir[onnx]=={tpu_mlir.VERSION}" in asked


def test_libraries_of_another_system_are_taken_out_and_no_others(tmp_path: Path) -> None:
    left = {path.name for path in (installed(tmp_path).package / "lib" / "third_party").iterdir()}
    assert not left & set(tpu_mlir.HOST_LIBRARIES)
    assert left == {"libprotobuf.so.32"}


def test_stand_in_for_pytorch_imports_and_has_nothing(tmp_path: Path) -> None:
    """Packages look for PyTorch in these ways."""
    folder = installed(tmp_path).package.parent
    code = (
        "import torch, copy\n"
        "assert not hasattr(torch, '__wrapped__')\n"
        "try: torch.Tensor\n"
        "except ImportError as error: print(error)\n"
        "try: from torch import nn\n"
        "except ImportError: print('no nn')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "torch.Tensor: PyTorch is not installed in this environment\nno nn\n"


def test_second_installation_does_nothing(tmp_path: Path, toolchains: Path) -> None:
    first = installed(tmp_path)
    calls = (toolchains / "pip.calls").read_text()
    (tmp_path / "bin" / "python3.10").unlink()  # it is not even looked for
    assert tpu_mlir.install() == first
    assert (toolchains / "pip.calls").read_text() == calls


def test_failure_of_pip_is_shown_and_leaves_nothing(tmp_path: Path, toolchains: Path) -> None:
    toolchains.mkdir(parents=True)
    (toolchains / "no-network").touch()
    with pytest.raises(HarnessError, match=r"pip install tpu_mlir.*ended with status 1") as caught:
        installed(tmp_path)
    shown = caught.value.cause.splitlines()
    assert shown[-2:] == ["  | 100", "  | ERROR: no network"]
    assert not (toolchains / f"tpu_mlir-{tpu_mlir.VERSION}").exists()
    (toolchains / "no-network").unlink()
    assert tpu_mlir.install() == tpu_mlir.find_environment()


def test_installation_that_was_cut_off_is_no_environment_and_is_made_anew(tmp_path: Path, toolchains: Path) -> None:
    environment = installed(tmp_path)
    (environment.root / tpu_mlir.COMPLETE).unlink()
    (environment.root / "half").touch()
    with pytest.raises(HarnessError, match="is not installed"):
        tpu_mlir.find_environment()
    assert tpu_mlir.install() == environment
    assert not (environment.root / "half").exists()
    assert (environment.root / tpu_mlir.COMPLETE).is_file()


def test_tools_find_nothing_of_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("http_proxy", "http://proxy")
    variables = tpu_mlir.Environment(tmp_path).variables()
    assert "ours" not in variables.values()
    assert variables["http_proxy"] == "http://proxy"
    assert variables["PATH"].split(os.pathsep)[0] == str(tmp_path / "bin")


def test_doctor_installs_on_demand_and_shows_how_it_gets_on(
    tmp_path: Path, toolchains: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python(tmp_path / "bin" / "python3.10")
    on_path(tmp_path / "bin")
    status, out, err = run("doctor", "--install", "tpu_mlir")
    out += capsys.readouterr().out  # signs of life give pytest its output back
    assert status == 0
    assert f"tpu_mlir is in {toolchains / f'tpu_mlir-{tpu_mlir.VERSION}'}" in out
    assert "pip install tpu_mlir" in err
    assert "bm1684x:simulated" in out


def test_doctor_fails_where_the_installation_does(toolchains: Path) -> None:
    status, _, err = run("doctor", "--install", "tpu_mlir")
    assert status == 4
    assert "uv python install 3.10" in err
