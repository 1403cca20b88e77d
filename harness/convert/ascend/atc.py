"""ATC, Ascend's compiler: its command line, its run, and whether an om came of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from harness.convert.ascend.codes import explain
from harness.convert.process import run_tool
from harness.errors import HarnessError
from harness.export.ascend import out_nodes as nodes_of_outputs
from harness.export.load import load_onnx_checked, stated_by

LIMIT_S = 3600.0
"""A compiler that takes longer hangs."""
LOG = "atc.log"
SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh (newer: /usr/local/Ascend/cann/set_env.sh)"


@dataclass(frozen=True, slots=True)
class AtcRequest:
    """A conversion that is asked for.

    Attributes:
        model: The ONNX.
        output: The om without its suffix.
        soc: As ``--soc_version`` has it.
        batch_size: Of the om.
        aipp: Config of AIPP; None for a float input.
        options: Further options, as atc takes them.
    """

    model: Path
    output: Path
    soc: str
    batch_size: int
    aipp: Path | None = None
    options: tuple[str, ...] = ()


def find_atc() -> Path:
    """The compiler.

    Raises:
        HarnessError: It is not there; the message says what was looked for.
    """
    found = shutil.which("atc")
    if found is not None:
        return Path(found)
    home = os.environ.get("ASCEND_TOOLKIT_HOME")
    if home is None:
        raise HarnessError("no atc on the PATH, and ASCEND_TOOLKIT_HOME is not set: CANN is missing", remedy=SET_ENV)
    for place in ("bin", "compiler/bin", "atc/bin"):
        if os.access(Path(home, place, "atc"), os.X_OK):
            return Path(home, place, "atc")
    raise HarnessError(
        "the toolkit has no atc", file=home, field="ASCEND_TOOLKIT_HOME", remedy="install the CANN toolkit, not only "
        "its runtime (nnrt)",
    )  # fmt: skip


def arguments(order: AtcRequest) -> list[str]:
    """The options of atc, with the names and shapes that the model itself states.

    Raises:
        HarnessError: The file is no ONNX, or its height and width are open.
    """
    model = load_onnx_checked(order.model)
    given = stated_by(model).inputs[0]
    shape = [order.batch_size, *given.shape[1:]]
    if None in shape:
        raise HarnessError(
            f"input '{given.name}' has {list(given.shape)}, and atc needs the sides",
            file=order.model,
            remedy="export the model at a fixed height and width",
        )
    told = [
        "--framework=5",
        f"--model={order.model}",
        f"--output={order.output}",
        f"--input_format={'NCHW' if shape[1] == 3 else 'ND'}",
        f"--input_shape={given.name}:{','.join(map(str, shape))}",
        f"--out_nodes={';'.join(out_nodes(model))}",
        "--log=info",
        f"--soc_version={order.soc}",
    ]
    told += [] if order.aipp is None else [f"--insert_op_conf={order.aipp}"]
    return [*told, *order.options]


def out_nodes(model: onnx.ModelProto) -> list[str]:
    """What ``--out_nodes`` takes, in the order of the model's outputs: the om is to have the same.

    ``NODE:INDEX``, with the names that stand in this file; where a node has none, the names of the outputs, which ATC
    takes as well but not mixed with the others.
    """
    outputs = [output.name for output in model.graph.output]
    makers = [node.name for node in model.graph.node if set(node.output) & set(outputs)]
    if any(not name or set(name) & set(":; ") for name in makers):
        return outputs
    return list(nodes_of_outputs(model))


def compile_om(order: AtcRequest, folder: Path) -> Path:
    """Run atc; the om.

    Its word is not taken: the exit status counts, and that the om is there and newer than the call.

    Args:
        order: What to make.
        folder: Where it runs; its log is left there.

    Raises:
        HarnessError: atc is missing, fails, hangs, or leaves no new om; known codes are explained.
    """
    om = order.output.with_name(f"{order.output.name}.om")
    command: Sequence[str | Path] = [find_atc(), *arguments(order)]
    started = time.time_ns()
    what = f"atc, {order.model.name} for {order.soc}"
    try:
        run_tool(command, folder, os.environ, what, order.model, limit_s=LIMIT_S)
    except HarnessError as error:
        raise explained(error, folder / LOG) from error
    # File systems count coarser than the clock.
    if not om.is_file() or om.stat().st_size == 0 or om.stat().st_mtime_ns < started - 2 * 10**9:
        state = "is as old as before" if om.is_file() else "is not there"
        raise HarnessError(
            f"{what}: it ended with status 0, and the om {state}", file=om, remedy=f"read its log: {folder / LOG}"
        )
    return om


def explained(error: HarnessError, log: Path) -> HarnessError:
    """The same error with what the codes in the tool's log mean, and their remedies."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    known = explain(text)
    if not known:
        return error
    told = "".join(f"\n  {one.code}: {one.meaning}" for one in known)
    remedy = "; ".join([*dict.fromkeys(one.remedy for one in known), *filter(None, [error.remedy])])
    return HarnessError(error.cause + told, file=error.file, field=error.field, remedy=remedy)
