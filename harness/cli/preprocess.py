"""`preprocess`: network inputs, written as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Coco, Limit, Model, chosen_dataset
from harness.cli.progress import progress
from harness.files import check_output_folder
from harness.report.escape import printable


def preprocess(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; it must not exist, or be empty.")],
    model: Model = "embedded",
    coco: Coco = None,
    limit: Limit = None,
) -> None:
    """Write the network input of every image as raw bytes, for a host that cannot run this suite.

    STEM.bin holds the values of one image, little-endian, in the dtype and layout of the card; manifest.json has the
    shape, the SHA-256 and the placement of each.

    Example: python -m harness preprocess --model embedded --output inputs
    """
    from harness.cards import load_model_card
    from harness.data.dataset import first_few
    from harness.exchange.inputs import write_inputs
    from harness.exchange.stems import stems_cut_alike

    check_output_folder(output, "--output")
    card, images = load_model_card(model), chosen_dataset(coco, limit)
    with progress("preprocessing") as report:
        write_inputs(card, images, output, report)
    print(f"{len(images)} images for {card.name}: {printable(output)}")
    if alike := stems_cut_alike(images):
        print(f"ais_bench cuts names at the first dot, and of these it keeps one result: {printable(first_few(alike))}")
