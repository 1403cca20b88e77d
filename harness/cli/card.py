"""`card`: a draft of the model card of an ONNX that nobody described."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Coco, Limit, chosen_dataset
from harness.cli.progress import progress, signs_of_life
from harness.errors import HarnessError
from harness.files import check_output, check_replaceable, whole_file
from harness.report.escape import printable

TRIED = 64
"""Images of ``--coco`` that are used by default."""
LOOKED_AT = 2
BEGINNING = re.compile(rb"# Draft of a model card")
"""Of a file that may be replaced."""


def card(
    onnx: Annotated[Path, typer.Option(metavar="FILE", help="ONNX of a CenterNet.")],
    output: Annotated[Path, typer.Option(metavar="CARD.toml", help="Draft to write.")],
    coco: Coco = None,
    limit: Limit = None,
) -> None:
    """Draft the model card of an ONNX whose names, layout and preprocessing nobody told: TOML with comments.

    Shapes and values of the outputs say which is which head. With --coco, the usual channel orders, means and
    geometries are tried on annotated images (64 of them, or --limit), and what reads the best AP is kept, with its
    margin. What could not be found out is a comment in the draft.

    Example: python -m harness card --onnx model.onnx --coco ROOT --output model.toml
    """
    from harness.cards import ModelCard
    from harness.cards.schema import parse, read_toml
    from harness.run.card_draft import draft_card

    check_output(output, "--output")
    if output.suffix != ".toml":
        remedy = f"name it {output.name}.toml"
        raise HarnessError("the name of a card's file ends in .toml", file=output, field="--output", remedy=remedy)
    check_replaceable(output, "--output", BEGINNING, "a draft of a card")
    tried = TRIED if limit is None else limit
    images = chosen_dataset(coco, LOOKED_AT if coco is None else tried)
    with signs_of_life():
        draft = draft_card(onnx, images, None if coco is None else images, progress)
    with whole_file(output) as fresh:
        fresh.write_text(draft.text, encoding="utf-8")
        parse(ModelCard, read_toml(fresh), output)
    width = max(len(finding.field) for finding in draft.findings)
    for finding in draft.findings:
        print(f"{finding.field:{width}}  {printable(finding.value)}  [{finding.sure}] {printable(finding.how)}")
    print(printable(output))
