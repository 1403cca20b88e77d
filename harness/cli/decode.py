"""`decode`: detections, read from heads in files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.deviation import deviations_end_with_1
from harness.cli.options import Coco, Limit, Model, chosen_dataset
from harness.cli.progress import progress
from harness.files import check_output, check_replaceable, whole_file
from harness.report.escape import printable


def decode(
    heads: Annotated[Path, typer.Option(metavar="DIR", help="Folder with STEM.npz for every image: hm, wh, reg.")],
    output: Annotated[Path, typer.Option(metavar="FILE.json", help="Detections to write.")],
    model: Model = "embedded",
    coco: Coco = None,
    limit: Limit = None,
    rounding: Annotated[
        bool, typer.Option("--rounding", help="Round boxes and scores to two decimals, as the official tools do.")
    ] = False,
) -> None:
    """Turn heads, from 'infer' or from any other tool, into detections in COCO's results format.

    Example: python -m harness decode --heads heads --output detections.json
    """
    from harness.cards import load_model_card
    from harness.data.detections import to_coco_json
    from harness.exchange.heads import decode_folder

    check_output(output, "--output")
    check_replaceable(output, "--output", re.compile(rb"\s*\["), "a list of detections")
    card, images = load_model_card(model), chosen_dataset(coco, limit)
    with deviations_end_with_1(), progress("decoding") as report:
        results = decode_folder(card, images, heads, report)
    records = to_coco_json(results, card.category_ids, rounding=rounding)
    with whole_file(output) as partial:
        partial.write_text(json.dumps(records), encoding="utf-8")
    print(f"{len(records)} detections in {len(images)} images: {printable(output)}")
