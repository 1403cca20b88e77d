"""Machine and versions of a run."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "numpy", "opencv-python-headless", "pycocotools")


@cache
def environment() -> dict[str, str]:
    """Versions of this project, Python and the packages that decide figures, and the machine."""
    found = {"centernet-conformance": _version("centernet-conformance"), "python": platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    found["machine"] = f"{platform.system()} {platform.machine()}, {cores()} cores"
    return found


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
