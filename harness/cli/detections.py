"""`decode` and `score`: from heads to detections, and to AP."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.deviation import deviations_end_with_1
from harness.cli.options import Coco, Limit, Model, chosen_dataset
from harness.cli.progress import progress
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.cards import ModelCard
    from harness.data.dataset import Dataset
    from harness.data.detections import Results
    from harness.exchange.output_folder import OutputFolder


def decode(
    heads: Annotated[Path, typer.Option(metavar="DIR", help="Folder with STEM.npz for every image: hm, wh, reg.")],
    output: Annotated[Path, typer.Option(metavar="FILE.json", help="COCO results to write.")],
    model: Model = "embedded",
    coco: Coco = None,
    limit: Limit = None,
    rounding: Annotated[
        bool, typer.Option("--rounding", help="Round boxes and scores to two decimals, as the official tools do.")
    ] = False,
) -> None:
    """Turn heads, from 'infer' or from any other tool, into detections in COCO's results format.

    Example: python -m harness decode --heads heads --output results.json
    """
    from harness.cards import load_model_card
    from harness.data.detections import to_coco_json
    from harness.exchange.heads import decode_folder
    from harness.files import whole_file

    card, images = load_model_card(model), chosen_dataset(coco, limit)
    with deviations_end_with_1(), progress("decoding") as report:
        results = decode_folder(card, images, heads, report)
    records = to_coco_json(results, card.category_ids, rounding=rounding)
    with whole_file(output) as partial:
        partial.write_text(json.dumps(records), encoding="utf-8")
    print(f"{len(records)} detections in {len(images)} images: {output}")


def score(
    results: Annotated[Path | None, typer.Option(metavar="FILE.json", help="COCO results of boxes.")] = None,
    outputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Outputs of every image, as ais_bench or its like wrote them.")
    ] = None,
    model: Model = "embedded",
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Device that the outputs are said to come from.")
    ] = None,
    coco: Coco = None,
    limit: Limit = None,
) -> None:
    """Print the twelve numbers of COCO's box evaluation, as pycocotools computes them, as fractions.

    Either of results in COCO's format, or of a folder of outputs that another host made of the files that
    'preprocess' wrote: STEM_0.bin and so on, of ais_bench, benchmark.x86_64 or msame. Results of a part of the images
    need the --limit that they were made with; images without results count as missed. With --outputs, the speeds that
    the tools left there are shown, beside the published ones of --device; the numbers are then computed by
    faster-coco-eval, which agrees with pycocotools to 1e-9.

    Example: python -m harness score --results results.json
    Example: python -m harness score --model dla_34 --outputs result/dumpout_bs1 --coco PATH/TO/COCO
    """
    from harness.cards import load_model_card
    from harness.checks.evaluate import evaluate, evaluate_records
    from harness.data.detections import read_coco_json

    if (results is None) == (outputs is None):
        raise HarnessError("give one of --results and --outputs", field="--outputs", remedy="see 'score --help'")
    images = chosen_dataset(coco, limit)
    if outputs is None:
        assert results is not None
        records = read_coco_json(results)
        metrics = evaluate_records(images.instances, records)
        found = len({record["image_id"] for record in records})
    else:
        card = load_model_card(model)
        detected = _detected(card, images, outputs, device)
        # Outputs are scored as fast as they are read, and so by the faster of two evaluators that agree.
        metrics = evaluate(images.instances, detected, card.category_ids, evaluator="faster-coco-eval")
        found = sum(len(one) > 0 for one in detected.values())
    numbers = asdict(metrics)
    del numbers["rounded"]  # how the file was written, which it does not say
    for name, value in numbers.items():
        print(f"{name:<7} {'-' if value is None else value if name == 'images' else format(value, '.4f')}")
    print(f"{found} of the images have detections")


def _detected(card: ModelCard, images: Dataset, folder: Path, device: str | None) -> Results:
    """Detections of a folder of outputs, once what they are has been said."""
    from harness.exchange.output_folder import detect_outputs, open_outputs

    with deviations_end_with_1():
        found = open_outputs(card, images, folder)
        said = "" if device is None else f", said to be of {device}"
        print(f"outputs made elsewhere{said}: {found.description}")
        for line in _speeds(card, found, device):
            print(f"speed measured elsewhere: {line}")
        with progress("decoding") as report:
            return detect_outputs(found, report)


def _speeds(card: ModelCard, outputs: OutputFolder, device: str | None) -> list[str]:
    from harness.checks.speed import describe
    from harness.devices.registry import create_device
    from harness.exchange.tool_speed import read_speeds

    chip = None if device is None else create_device(device).card
    return [describe(speed, chip, card) for speed in read_speeds(outputs.layout.folders, len(outputs.dataset))]
