"""Everything that outputs depend on beside the images: what a stored output is filed under."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlparse

import torch

from harness.cards import DeviceCard
from harness.devices.base import ByImage, Device
from harness.devices.registry import distribution_of, is_own
from harness.errors import HarnessError
from harness.files import file_sha256
from harness.report.environment import cores

CODE = (".py", ".toml")
PACKAGE = Path(__file__).resolve().parent.parent
"""Of this project, that whose code makes outputs."""
VARIABLES = (
    "ATEN_*", "BLIS_*", "CUBLAS_*", "CUDA_*", "CUDNN_*", "DNNL_*", "GOMP_*", "KMP_*", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "MKL_*", "NVIDIA_*", "OMP_*", "ONEDNN_*", "OPENBLAS_*", "OPENCV_*", "ORT_*", "PYTORCH_*", "TORCH_*",
)  # fmt: skip
"""Environment variables of the libraries that every device of this project computes with, `*` for any ending."""
DRIVERS = (
    "/proc/driver/nvidia/version",
    "/proc/bmsophon/driver_version",
    "/usr/local/Ascend/driver/version.info",
    "/usr/local/Ascend/firmware/version.info",
)
"""Files in which drivers state their version."""
LEFT_OUT = {"__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "venv"}
"""Folders of an editable tree that are no part of what is installed from it."""


def surroundings(card: DeviceCard, variables: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Return code, versions, processor, drivers, threads and variables that outputs of a device depend on.

    Args:
        card: Of the device; it may declare further variables.
        variables: Of the environment.
    """
    return {
        "code": own_code(),
        "versions": installed(),
        "processor": processor(),
        "drivers": {file: text for file in DRIVERS if (text := _text(Path(file)))},
        "threads": [cores(), torch.get_num_threads()],
        "variables": declared((*VARIABLES, *card.environment), variables),
    }


@cache
def own_code() -> str:
    """Return one hash for all code and tables of this project that make outputs."""
    return tree_sha256(PACKAGE, lambda path: path.suffix in CODE)


def device_code(name: str, device: Device) -> str | None:
    """Return one hash for the code of a device; None where it is not known, or its outputs are not made here.

    That of this project's own devices is in `own_code`.
    """
    if isinstance(device, ByImage):
        return None
    try:
        found = distribution_of(name)
    except HarnessError:  # one that was made in code
        return None
    if found is None:
        return None
    return "own" if is_own(found) else distribution_sha256(found)


def distribution_sha256(found: Distribution) -> str | None:
    """Return one hash for every file of a distribution, of the whole tree where it is editable; None if not known."""
    url = json.loads(found.read_text("direct_url.json") or "{}")
    if url.get("dir_info", {}).get("editable"):
        root = Path(unquote(urlparse(url["url"]).path))
        return tree_sha256(root) if root.is_dir() else None
    if not found.files:
        return None
    places = [Path(str(found.locate_file(file))) for file in found.files if "__pycache__" not in file.parts]
    return files_sha256((str(place), place) for place in sorted(places) if place.is_file())


def tree_sha256(root: Path, wanted: Callable[[Path], bool] = lambda path: True) -> str:
    """Return one hash for the files below a folder, names included.

    Args:
        root: The folder.
        wanted: Says of a path whether it counts; every file does by default.
    """
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.endswith(".egg-info"))
        found += [Path(folder, file) for file in files]
    chosen = [path for path in sorted(found) if path.is_file() and wanted(path)]
    return files_sha256((path.relative_to(root).as_posix(), path) for path in chosen)


def files_sha256(named: Iterable[tuple[str, Path]]) -> str:
    """Return one hash for the names and contents of files."""
    digest = sha256()
    for name, path in named:
        digest.update(f"{name}\0{file_sha256(path)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@cache
def installed() -> dict[str, str]:
    """Return the version of every distribution of this environment by name, with that of Python."""
    found = {str(one.metadata["Name"]): str(one.version) for one in distributions()}
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


@cache
def processor() -> list[str]:
    """Name the processor and its instruction sets, as kernels are chosen by them."""
    lines = (_text(Path("/proc/cpuinfo")) or "").splitlines()
    stated = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    named = [stated[key] for key in ("model name", "flags", "Features") if key in stated]
    return [platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability(), *named]


def declared(names: Iterable[str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that have one of these names.

    Args:
        names: Each in full, or its beginning and ``*``.
        variables: Of the environment.
    """
    patterns = [re.escape(name).replace(r"\*", ".*") for name in names]
    known = re.compile("|".join(patterns))
    return {name: variables[name] for name in sorted(variables) if known.fullmatch(name)}


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
