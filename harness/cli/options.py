"""Options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cards import model_card_names
from harness.cli import completion
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.data.dataset import Dataset

Model = Annotated[
    str,
    typer.Option(
        metavar="CARD",
        help=f"Model card: a .toml file, or one of {', '.join(model_card_names())}.",
        autocompletion=completion.models,
    ),
]
Coco = Annotated[
    Path | None,
    typer.Option(
        metavar="ROOT",
        help="Folder of COCO, with annotations/ and val2017/; without it, the embedded data set is used.",
    ),
]
Limit = Annotated[int | None, typer.Option(metavar="N", help="Use only the N images of lowest id.")]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="PyTorch checkpoint (.pth); by default the card's own, if any.")
]
OldResults = Annotated[Path | None, typer.Option(metavar="FILE", hidden=True)]
"""``--results`` of a verb that took COCO rows by that name."""


def refuse_old_results(results: Path | None) -> None:
    """Name the option that COCO rows are given by.

    Raises:
        HarnessError: `results` is given.
    """
    if results is not None:
        raise HarnessError(
            "--results is the results document everywhere; rows of detections have an option of their own",
            file=results,
            field="--results",
            remedy=f"give --detections {results}",
        )


def chosen_dataset(coco: Path | None, limit: int | None = None, split: str = "val2017") -> Dataset:
    """The data set of ``--coco``, or the embedded one, which is written to the cache on first use."""
    from harness.cli.progress import progress
    from harness.data.dataset import load_coco
    from harness.data.synthetic import load_spec, materialise
    from harness.paths import cache_path

    if coco is not None:
        return load_coco(coco, limit=limit, split=split)
    spec = load_spec()
    halves = {part.folder: name for name, part in spec.split.items()}
    if split not in halves:
        raise HarnessError(
            f"the embedded data set has no split '{split}'",
            field="--split",
            remedy=f"use {' or '.join(halves)}, or give --coco",
        )
    with progress("embedded data set") as report:
        root = materialise(spec, halves[split], cache_path(), progress=report)
    return load_coco(root, limit=limit, split=split)
