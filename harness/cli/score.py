"""`score`: AP of detections, or of outputs that another host made."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.deviation import deviations_end_with_1
from harness.cli.options import Coco, Limit, Model, OldResults, chosen_dataset, refuse_old_results
from harness.cli.progress import progress
from harness.errors import HarnessError
from harness.report.escape import printable

if TYPE_CHECKING:
    from harness.cards import ModelCard
    from harness.data.dataset import Dataset
    from harness.data.detections import Results
    from harness.exchange.output_folder import OutputFolder


def score(
    detections: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Detections of boxes in COCO's results format.")
    ] = None,
    outputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Outputs of every image, as ais_bench or its like wrote them.")
    ] = None,
    model: Model = "embedded",
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Device that the outputs are said to come from.", autocompletion=completion.device
        ),
    ] = None,
    coco: Coco = None,
    limit: Limit = None,
    results: OldResults = None,
) -> None:
    """Print the twelve numbers of COCO's box evaluation, as pycocotools computes them, as fractions.

    Either of detections in COCO's results format, or of a folder of outputs that another host made of the files that
    'preprocess' wrote: STEM_0.bin and so on, of ais_bench, benchmark.x86_64 or msame. Detections of a part of the
    images need the --limit that they were made with; images without detections count as missed. With --outputs, the
    speeds that the tools left there are shown, beside the published ones of --device; the numbers are then computed by
    faster-coco-eval, which agrees with pycocotools to 1e-9.

    Example: python -m harness score --detections detections.json
    Example: python -m harness score --model dla_34 --outputs result/dumpout_bs1 --coco PATH/TO/COCO
    """
    from harness.cards import load_model_card
    from harness.checks.evaluate import evaluate, evaluate_records
    from harness.data.detections import read_coco_json

    refuse_old_results(results)
    if (detections is None) == (outputs is None):
        raise HarnessError("give one of --detections and --outputs", field="--outputs", remedy="see 'score --help'")
    images = chosen_dataset(coco, limit)
    if outputs is None:
        assert detections is not None
        records = read_coco_json(detections)
        metrics = evaluate_records(images.instances, records)
        found = len({record["image_id"] for record in records})
    else:
        card = load_model_card(model)
        detected = _detected(card, images, outputs, device)
        # Outputs are scored as fast as they are read, and so by the faster of two evaluators that agree.
        metrics = evaluate(images.instances, detected, card.category_ids, evaluator="faster-coco-eval")
        found = sum(len(one) > 0 for one in detected.values())
    numbers = asdict(metrics)
    del numbers["rounded"], numbers["curves"]  # how the file was written, which it does not say, and what is no number
    for name, value in numbers.items():
        print(f"{name:<7} {'-' if value is None else value if name == 'images' else format(value, '.4f')}")
    print(f"{found} of the images have detections")


def _detected(card: ModelCard, images: Dataset, folder: Path, device: str | None) -> Results:
    """Detections of a folder of outputs; says first of which tool, type and order these are."""
    from harness.exchange.output_folder import detect_outputs, open_outputs

    with deviations_end_with_1():
        found = open_outputs(card, images, folder)
        said = "" if device is None else f", said to be of {device}"
        print(printable(f"outputs made elsewhere{said}: {found.description}"))
        for line in _speeds(card, found, device):
            print(printable(f"speed measured elsewhere: {line}"))
        with progress("decoding") as report:
            return detect_outputs(found, report)


def _speeds(card: ModelCard, outputs: OutputFolder, device: str | None) -> list[str]:
    from harness.checks.speed import describe
    from harness.devices.registry import create_device
    from harness.exchange.tool_speed import read_speeds

    chip = None if device is None else create_device(device).card
    return [describe(speed, chip, card) for speed in read_speeds(outputs.layout.folders, len(outputs.dataset))]
