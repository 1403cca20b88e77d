"""Choice of what runs an om on this host, and what its errors mean."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.convert.ascend.codes import explain, explain_status
from harness.devices.ascend_commands import AisBenchCommand, BenchmarkCommand
from harness.devices.link import Array, Runner
from harness.devices.runners import acl, ais_bench
from harness.errors import HarnessError


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime for oms.

    Attributes:
        name: For the report.
        runner: Loads and runs an om; its outputs are called by their place.
    """

    name: str
    runner: Runner


AIS_BENCH = Runtime("ais_bench (Python)", ais_bench)
PY_ACL = Runtime("pyACL", acl)
AIS_BENCH_COMMAND = Runtime(AisBenchCommand.name, AisBenchCommand())
BENCHMARK_COMMAND = Runtime(BenchmarkCommand.name, BenchmarkCommand())


def find_runtime() -> Runtime:
    """Choose the best runtime of this host: in process before a command line, which loads the om for every batch.

    Raises:
        HarnessError: There is none; the message says what was looked for.
    """
    looked_for = [
        (_importable("aclruntime") and _importable("ais_bench"), AIS_BENCH),
        (_importable("acl"), PY_ACL),
        (_importable("ais_bench") or shutil.which("msit") is not None, AIS_BENCH_COMMAND),
        (shutil.which("benchmark.x86_64") is not None, BENCHMARK_COMMAND),
    ]
    for there, runtime in looked_for:
        if there:
            return runtime
    raise HarnessError(
        "neither ais_bench, pyACL (acl), msit nor benchmark.x86_64 is here",
        remedy="install ais_bench and aclruntime for this Python, or source CANN's set_env.sh, which has pyACL",
    )


def require_input(images: Array, size: int, om: Path) -> None:
    """Refuse a batch that the runtime, which takes an address alone, would read as something else.

    Args:
        images: One batch.
        size: Bytes of the om's input.
        om: For the message.

    Raises:
        HarnessError: The bytes are not as many as the input's, as of an om with AIPP or fp16 input, or another batch.
    """
    if images.nbytes != size:
        raise HarnessError(
            f"the om takes {size} bytes and the batch has {images.nbytes} ({images.dtype} of shape {images.shape})",
            file=om,
            remedy="convert with a float32 input and this batch size, without AIPP and --input_fp16_nodes",
        )


def explained_failure(error: Exception, om: Path) -> HarnessError:
    """Explain the error of a runtime that does not load an om."""
    status = getattr(error, "status", None)
    if status is not None:
        return call_failed(error, status, om)
    text = str(error)
    known = explain(text)
    meaning = "".join(f"\n  {one.code}: {one.meaning}" for one in known)
    remedy = "; ".join(one.remedy for one in known) or "convert it for the chip of this host, with its own CANN"
    first = text.splitlines()[0] if text else "no reason given"
    return HarnessError(f"the om cannot be loaded: {first}{meaning}", file=om, remedy=remedy)


def call_failed(error: Exception, status: int, om: Path) -> HarnessError:
    """Explain the status that a call of pyACL returned."""
    told = explain_status(status)
    return HarnessError(f"{error}: {told.meaning}", file=om, remedy=told.remedy)


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
