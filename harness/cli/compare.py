"""`compare`: files that a port wrote, judged stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Coco, Limit, Model, OldResults, Weights, chosen_dataset, refuse_old_results
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.checks.comparison import Comparison
    from harness.checks.files import Judged

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
    precision: Annotated[str, typer.Option(help="Precision that the port claims.")] = "fp32",
    results: OldResults = None,
) -> None:
    """Judge the files of a port that runs elsewhere: every stage on what the port itself had before it.

    Where inputs, heads or detections deviate, the known mistake that explains it is named ("diagnosis: ..."); the
    layer where a port first goes wrong is found by 'diagnose'.

    Example: python -m harness compare --detections detections.json
    """
    from harness.cards import load_model_card
    from harness.checks.files import PortFiles, judge_files
    from harness.data.detections import read_coco_json
    from harness.exchange.claim import read_claim
    from harness.exchange.speed_log import read_speed_log
    from harness.faults.diagnosis.files import diagnose_files
    from harness.run.reference import Reference
    from harness.run.subject import load_subject

    refuse_old_results(results)
    if not any((inputs, heads, detections, speed)):
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
    judged = judge_files(golden, images, files)
    stages = _stages(judged)
    for stage in stages:
        print(stage)
    for line in diagnose_files(golden, images, files, judged):
        print(f"diagnosis: {line}")
    deviates = any(stage.problems for stage in stages)
    print(f"verdict: {'deviates' if deviates else 'conforms'}, {len(images)} images")
    if deviates:
        raise typer.Exit(1)


@dataclass(frozen=True)
class JudgedStage:
    """A stage and how it came out.

    Attributes:
        name: Of the stage.
        comparisons: All that was compared.
    """

    name: str
    comparisons: list[Comparison]

    @property
    def problems(self) -> list[Comparison]:
        """Those that deviate."""
        return [comparison for comparison in self.comparisons if comparison.problem is not None]

    def __str__(self) -> str:
        first = f": {self.problems[0]}" if self.problems else ""
        return f"stage {self.name}: {len(self.problems)} of {len(self.comparisons)} comparisons deviate{first}"


def _stages(judged: Judged) -> list[JudgedStage]:
    """Every stage that was judged, in the order of the flow."""
    return [JudgedStage(name, comparisons) for name, comparisons in judged.items()]
