"""`compare`: files that a port wrote, judged stage by stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.options import Coco, Limit, Model, Weights, chosen_dataset, refuse_old_results
from harness.cli.progress import progress, signs_of_life
from harness.errors import HarnessError
from harness.files import is_file, open_regular
from harness.report.escape import printable, printable_lines

if TYPE_CHECKING:
    from harness.checks.comparison import Comparison

Folder = Annotated[Path | None, typer.Option(metavar="DIR", help="STEM.bin of every image, as 'preprocess' writes.")]
HeadsFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="STEM.npz of every image, as 'infer' writes.")]
DetectionsFile = Annotated[
    Path | None, typer.Option(metavar="FILE.json", help="Detections of boxes in COCO's results format.")
]
Claim = Annotated[
    Path | None, typer.Option(metavar="FILE", help='Your figures of them: {"AP": 0.364, "images": 5000}.')
]
Speed = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Log of your benchmark; see harness/exchange/speed_log.py.")
]


def compare(
    inputs: Folder = None,
    heads: HeadsFolder = None,
    detections: DetectionsFile = None,
    claim: Claim = None,
    speed: Speed = None,
    model: Model = "embedded",
    weights: Weights = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="ONNX that is the reference.")] = None,
    coco: Coco = None,
    limit: Limit = None,
    precision: Annotated[
        str, typer.Option(help="Precision that the port claims.", autocompletion=completion.precisions)
    ] = "fp32",
    results: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Results document (JSON) to write, also where files deviate.")
    ] = None,
) -> None:
    """Judge the files of a port that runs elsewhere: every stage on what the port itself had before it.

    Where inputs, heads or detections deviate, the known mistake that explains it is named ("diagnosis: ..."); the
    layer where a port first goes wrong is found by 'diagnose'.

    Ends with status 0 where the files conform (or only a speed was measured), 1 where they deviate or inputs alone were
    given, 4 where something that was given is missing or wrong.

    Example: python -m harness compare --detections detections.json --results results.json
    """
    from harness.cards import load_model_card
    from harness.checks.files import PortFiles
    from harness.checks.verdict import EXIT_STATUS
    from harness.data.detections import read_coco_json
    from harness.exchange.claim import read_claim
    from harness.exchange.speed_log import read_speed_log
    from harness.faults.diagnosis.text import answers
    from harness.report.document import check_results
    from harness.run.comparing import compare as compare_files
    from harness.run.conclude import write
    from harness.run.images import describe_images
    from harness.run.reference import Reference
    from harness.run.subject import load_subject

    if results is not None:
        _refuse_rows(results)
        check_results(results)
    if not any((inputs, heads, detections, speed)):
        refuse_old_results(results)
        raise HarnessError("nothing to compare", remedy="give --inputs, --heads, --detections or --speed")
    if claim is not None and detections is None:
        raise HarnessError("figures of no detections", field="--claim", remedy="give --detections as well")
    images = chosen_dataset(coco, limit)
    golden = Reference(load_subject(load_model_card(model), weights, onnx), precision)
    files = PortFiles(
        inputs,
        heads,
        None if detections is None else read_coco_json(detections),
        None if claim is None else read_claim(claim),
        None if speed is None else read_speed_log(speed),
    )
    with signs_of_life(), progress("judged") as report:
        judged, document = compare_files(golden, images, describe_images(images, coco), files, report)
    document = write(document, results)
    for stage, comparisons in judged.items():
        print(_line(stage, comparisons))
    [run] = document.runs
    for line in answers(run.diagnosis):
        print(f"diagnosis: {printable(line)}")
    for problem in document.problems:
        print(f"problem: {printable_lines(problem)}")
    judged_images = f"{len(images)} images" if files.judges_outputs else "outputs of no image were judged"
    print(f"verdict: {document.verdict}, {judged_images}")
    raise typer.Exit(EXIT_STATUS[document.verdict])


def _line(stage: str, comparisons: list[Comparison]) -> str:
    problems = [comparison for comparison in comparisons if comparison.problem is not None]
    first = f": {printable(problems[0])}" if problems else ""
    return f"stage {stage}: {len(problems)} of {len(comparisons)} comparisons deviate{first}"


def _refuse_rows(results: Path) -> None:
    """Name the option for COCO rows, where they are given by the name that it had before."""
    if is_file(results):
        with open_regular(results, "--results", sys.maxsize) as file:
            rows = file.read(64).lstrip().startswith(b"[")
        if rows:
            refuse_old_results(results)
