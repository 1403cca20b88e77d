"""`compare`: the files that a port of yours wrote, judged stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Coco, Limit, Model, Weights, chosen_dataset
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.checks.files import Judged

Folder = Annotated[Path | None, typer.Option(metavar="DIR", help="STEM.bin of every image, as 'preprocess' writes.")]
HeadsFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="STEM.npz of every image, as 'infer' writes.")]
Results = Annotated[Path | None, typer.Option(metavar="FILE", help="COCO results of boxes.")]
Claim = Annotated[
    Path | None, typer.Option(metavar="FILE", help='Your figures of them: {"AP": 0.364, "images": 5000}.')
]
Speed = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Log of your benchmark; see harness/exchange/speed_log.py.")
]


def compare(
    inputs: Folder = None,
    heads: HeadsFolder = None,
    results: Results = None,
    claim: Claim = None,
    speed: Speed = None,
    model: Model = "embedded",
    weights: Weights = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX that is the reference.")] = None,
    coco: Coco = None,
    limit: Limit = None,
    precision: Annotated[str, typer.Option(help="Precision that the port claims.")] = "fp32",
) -> None:
    """Judge the files of a port that runs elsewhere: every stage on what the port itself had before it.

    Inputs, heads and detections that deviate are explained by the catalogue of known mistakes.

    Example: python -m harness compare --results results.json
    """
    from harness.cards import load_model_card
    from harness.checks.files import PortFiles, judge_files
    from harness.checks.port_files import read_claim
    from harness.data.detections import read_coco_json
    from harness.exchange.speed_log import read_speed_log
    from harness.faults.diagnosis.files import diagnose_files
    from harness.run.reference import Reference
    from harness.run.subject import load_subject

    if not any((inputs, heads, results, speed)):
        raise HarnessError("nothing to compare", remedy="give --inputs, --heads, --results or --speed")
    if claim is not None and results is None:
        raise HarnessError("figures of no results", field="--claim", remedy="give --results as well")
    images = chosen_dataset(coco, limit)
    golden = Reference(load_subject(load_model_card(model), weights, onnx), precision)
    files = PortFiles(
        inputs,
        heads,
        None if results is None else read_coco_json(results),
        None if claim is None else read_claim(claim),
        None if speed is None else read_speed_log(speed),
    )
    judged = judge_files(golden, images, files)
    deviates = _print(judged)
    for line in diagnose_files(golden, images, files, judged):
        print(f"diagnosis: {line}")
    print(f"verdict: {'deviates' if deviates else 'conforms'}, {len(images)} images")
    if deviates:
        raise typer.Exit(1)


def _print(judged: Judged) -> bool:
    """A line for each stage; whether any deviates."""
    for stage, comparisons in judged.items():
        problems = [comparison for comparison in comparisons if comparison.problem is not None]
        first = f": {problems[0]}" if problems else ""
        print(f"stage {stage}: {len(problems)} of {len(comparisons)} comparisons deviate{first}")
    return any(comparison.problem for comparisons in judged.values() for comparison in comparisons)
