"""The environment of tpu_mlir: one of its own, since it needs another Python and NumPy than the suite."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.cache import locked
from harness.convert.process import run_tool
from harness.errors import HarnessError
from harness.paths import cache_path
from harness.report.environment import cores

logger = logging.getLogger(__name__)

VERSION = "1.30.2"
PYTHON = "3.10"
"""The only version that its wheel supports."""
REQUIREMENTS = (
    f"tpu_mlir[onnx]=={VERSION}",
    "psutil>=5.9",  # imported, not declared
    "setuptools<81",  # the last with pkg_resources, which every entry point imports
)
INSTALL = "python -m harness doctor --install tpu_mlir"
HOST_LIBRARIES = ("libc.so.6", "libm.so.6", "libpthread.so.0")
"""Libraries of glibc 2.35 in a bundled folder that the tools put first on the library path.

On a host with a newer glibc no tool starts with them, so the installation removes them.
"""
COMPLETE = "complete"

TORCH = '''\
"""Stands in for PyTorch, which tpu_mlir imports and, for ONNX models, does not use: gigabytes that nothing needs."""


def __getattr__(name):
    # Packages that look whether PyTorch is there must find that it is not.
    kind = AttributeError if name.startswith("__") else ImportError
    raise kind(f"torch.{name}: PyTorch is not installed in this environment")
'''


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with tpu_mlir.

    Attributes:
        root: Its folder.
    """

    root: Path

    def tool(self, name: str) -> Path:
        """Return the path of the command `name`."""
        return self.root / "bin" / name

    @property
    def package(self) -> Path:
        """Folder of the package."""
        return self.root / "lib" / f"python{PYTHON}" / "site-packages" / "tpu_mlir"

    def variables(self) -> dict[str, str]:
        """Make the environment variables for its tools, without ours that change the search of Python or the loader."""
        foreign = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "TPUC_ROOT")
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        threads = str(cores())
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**kept, "PATH": path, "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": threads}


def default_root() -> Path:
    """Return the folder of the environment, whether it is installed or not."""
    return cache_path() / "toolchains" / f"tpu_mlir-{VERSION}"


def find_environment() -> Environment:
    """Find the environment with tpu_mlir.

    Raises:
        HarnessError: It is not installed.
    """
    root = default_root()
    if not (root / COMPLETE).is_file():
        raise HarnessError(
            f"tpu_mlir {VERSION}, Sophon's compiler and simulators, is not installed", file=root, remedy=INSTALL
        )
    return Environment(root)


def install() -> Environment:
    """Install tpu_mlir into its environment, unless it is there already.

    Raises:
        HarnessError: There is no Python 3.10, or pip fails.
    """
    root = default_root()
    with locked(root):
        if not (root / COMPLETE).is_file():
            python = find_python()
            if root.exists():
                shutil.rmtree(root)  # of an installation that was cut off
            try:
                _fill(Environment(root), python)
            except BaseException:
                shutil.rmtree(root, ignore_errors=True)
                raise
    return Environment(root)


def _fill(environment: Environment, python: Path) -> None:
    root, variables = environment.root, environment.variables()
    root.mkdir(parents=True)
    run_tool([python, "-m", "venv", root], root, variables, f"new environment with {python}")
    pip: list[str | Path] = [
        environment.tool("python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        *REQUIREMENTS,
    ]
    run_tool(pip, root, variables, f"pip install {REQUIREMENTS[0]} (1.5 GB)")
    for library in HOST_LIBRARIES:
        (environment.package / "lib" / "third_party" / library).unlink(missing_ok=True)
    (environment.package.parent / "torch.py").write_text(TORCH, encoding="utf-8")
    run_tool([environment.tool("model_transform"), "--help"], root, variables, "first start of model_transform")
    (root / COMPLETE).write_text(f"{VERSION}\n", encoding="utf-8")


def find_python() -> Path:
    """Find a Python 3.10: known to uv, on the PATH, one of pyenv's, or beside the Python that runs this.

    Raises:
        HarnessError: There is none.
    """
    for candidate in _candidates():
        if _is_python(candidate):
            return candidate
    raise HarnessError(
        f"tpu_mlir needs Python {PYTHON}, and neither uv nor the PATH nor pyenv has one",
        remedy=f"install it, for example with 'uv python install {PYTHON}' or 'pyenv install {PYTHON}', and try again",
    )


def _candidates() -> Iterator[Path]:
    uv = shutil.which("uv")
    if uv is not None:
        yield from map(Path, _output([uv, "python", "find", "--no-project", PYTHON]).splitlines())
    name = f"python{PYTHON}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found is not None:
            yield Path(found)
    # A shim of pyenv is on the PATH and refuses where another version is chosen.
    pyenv = shutil.which("pyenv")
    if pyenv is not None:
        versions = Path(_output([pyenv, "root"]).strip() or "/nowhere") / "versions"
        yield from sorted(versions.glob(f"{PYTHON}*/bin/{name}"), reverse=True)
    # pyenv and uv keep their versions beside each other, the one that runs this among them.
    yield from sorted(Path(sys.base_prefix).parent.glob(f"*{PYTHON}*/bin/{name}"), reverse=True)


def _is_python(candidate: Path) -> bool:
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    return _output([candidate, "-c", code]).strip() == PYTHON


def _output(command: list[str | Path]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout if ended.returncode == 0 else ""
