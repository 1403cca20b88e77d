"""`export`: a network, written as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cards.model import LARGEST_BATCH
from harness.cli.options import Model, Weights
from harness.errors import HarnessError
from harness.files import check_output, whole_file
from harness.report.escape import printable


def export(
    output: Annotated[Path, typer.Option(metavar="FILE.onnx", help="File to write.")],
    model: Model = "embedded",
    weights: Weights = None,
    batch_size: Annotated[str, typer.Option(metavar="N|dynamic", help="Batch size of the file.")] = "dynamic",
    dialect: Annotated[str, typer.Option(metavar="DIALECT", help="One of those below.")] = "standard",
) -> None:
    """Write a network as one file, batch norm folded, and hold it to the network.

    The dialects: standard (ONNX of opset 19 with DeformConv), ascend (ONNX of opset 11 with DeformableConv2D, for ATC),
    decomposed (ONNX of opset 18 without deformable operators; it needs a batch size), torchscript.

    Example: python -m harness export --model embedded --output embedded.onnx
    Example: python -m harness export --dialect ascend --model embedded --batch-size 1 --output embedded.onnx
    """
    from harness.cards import load_model_card
    from harness.devices.memory import require_batch_memory
    from harness.export import DIALECTS
    from harness.export.check import check_export
    from harness.run.subject import load_subject

    check_output(output, "--output")
    for given, option in ((Path(model), "--model"), (weights, "--weights")):
        if given is not None and output.exists() and given.exists() and output.samefile(given):
            raise HarnessError(f"it is the file of {option}", file=output, field="--output", remedy="name another file")
    size = _batch_size(batch_size)
    if dialect not in DIALECTS:
        raise HarnessError(f"no dialect '{dialect}'", field="--dialect", remedy=f"use one of {', '.join(DIALECTS)}")
    subject = load_subject(load_model_card(model), weights, None)
    assert subject.module is not None  # there is no ONNX to take its place
    write, _ = DIALECTS[dialect]
    require_batch_memory(subject.card, size or 1)
    with whole_file(output) as fresh:
        check_export(
            write(subject.module, subject.card, fresh, batch_size=size, weights_sha256=subject.sha256), size or 1
        )
    print(printable(output))


def _batch_size(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or not 1 <= float(text) <= LARGEST_BATCH:
        raise HarnessError(
            f"'{text}' is no batch size", field="--batch-size", remedy=f"give 1 to {LARGEST_BATCH}, or 'dynamic'"
        )
    return int(text)
