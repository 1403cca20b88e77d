"""Known mistakes that explain the files of a port."""

from __future__ import annotations

from collections.abc import Sequence

from harness.centernet.preprocess import place, preprocess
from harness.checks.claim import CLAIM_ALLOWED
from harness.checks.files import Judged, PortFiles
from harness.checks.margins import Margins
from harness.checks.speed import ALLOWED
from harness.data.dataset import Dataset
from harness.exchange.heads import read_heads_file
from harness.exchange.inputs import read_input
from harness.exchange.stems import file_stems
from harness.faults import CATALOGUE, AnyFault, PortSpec, Setting
from harness.faults.diagnosis.evidence import Evidence, HeadsEvidence, InputEvidence, RowsEvidence
from harness.faults.diagnosis.explanation import Explanation
from harness.faults.diagnosis.predict import Chain
from harness.faults.diagnosis.search import Search
from harness.faults.diagnosis.text import as_records
from harness.faults.fault import FaultStage
from harness.faults.stages.evaluate import evaluate_as
from harness.faults.stages.speed import claim
from harness.report.records import Diagnosis
from harness.run.diagnose import runner_of
from harness.run.reference import Reference

IMAGES = 8
"""That a diagnosis looks at: the first, so that batches and gaps show."""
SOURCE: tuple[FaultStage, ...] = ("heads", "numeric", "batch", "preprocess", "network")


def diagnose_files(golden: Reference, dataset: Dataset, files: PortFiles, judged: Judged) -> list[Diagnosis]:
    """Name the known mistakes that explain each stage that deviates.

    Args:
        golden: The reference.
        dataset: The images.
        files: What the port wrote.
        judged: How it was judged.
    """
    wrong = {stage for stage, found in judged.items() if any(one.problem for one in found)}
    named: list[Diagnosis] = []
    some = dataset.first(IMAGES)
    for stage in ("preprocess", "heads", "detections"):
        if stage in wrong:
            named += as_records(explain_stage(stage, golden, some, files, len(dataset)), stage)
    if "evaluate" in wrong:
        named += _equally_likely("evaluate", _evaluation(dataset, files))
    if "speed" in wrong:
        named += _equally_likely("speed", _speed(files))
    return named


def explain_stage(
    stage: str,
    golden: Reference,
    some: Dataset,
    files: PortFiles,
    count: int,
    catalogue: Sequence[AnyFault] = CATALOGUE,
) -> list[Explanation]:
    """Explanations of the inputs, heads or detections that a port wrote for some images, best first."""
    card, module = golden.subject.card, golden.subject.module
    images = [some.read_image(image_id) for image_id in some.image_ids]
    chain = Chain(card, runner_of(golden), images, some.image_ids, max(card.batch_sizes), count=count)
    evidence = _evidence(stage, golden, some, files, chain)
    setting = Setting.of(card, module, golden.precision, max(card.batch_sizes))
    return Search(chain, evidence, setting, catalogue).explain()


def _evidence(stage: str, golden: Reference, some: Dataset, files: PortFiles, chain: Chain) -> Evidence:
    card, ids, stems = golden.subject.card, some.image_ids, file_stems(some)
    folder = files.inputs
    own = None if folder is None else [read_input(card, some, folder / f"{stems[i]}.bin", i) for i in ids]
    if stage == "preprocess":
        assert own is not None
        return InputEvidence(own)
    chain.inputs = own
    fed = own or [preprocess(card, image)[0] for image in chain.images]
    allowed = [golden.allowed(array[None], golden.heads(array[None])) for array in fed]
    stages = SOURCE if own is None else tuple(s for s in SOURCE if s != "preprocess")
    given = None
    if files.heads is not None:
        given = [dict(read_heads_file(card, files.heads / f"{stems[i]}.npz")) for i in ids]
    if stage == "heads":
        assert given is not None
        return HeadsEvidence(given, allowed, stages)
    chain.heads = given
    margins = [
        Margins.of_rows(card, {} if given else limits, place(card, some.size(image_id)))
        for image_id, limits in zip(ids, allowed, strict=True)
    ]
    own_stages: tuple[FaultStage, ...] = ("decode", "results")
    rows = [[dict(row) for row in files.by_image.get(image_id, [])] for image_id in ids]
    return RowsEvidence(rows, margins, own_stages if given else (*own_stages, *stages))


def _evaluation(dataset: Dataset, files: PortFiles) -> list[AnyFault]:
    """The mistakes of an evaluation with which every claimed figure comes out."""
    assert files.claim is not None
    assert files.results is not None
    found = []
    for fault in (fault for fault in CATALOGUE if fault.stage == "evaluate"):
        for params in fault.guesses:
            own = evaluate_as(fault.apply(PortSpec(), params).evaluate, dataset.instances, files.results)
            if all(abs(own.get(name, -1) - value) <= CLAIM_ALLOWED for name, value in files.claim.items()):
                found.append(fault)
    return list(dict.fromkeys(found))


def _speed(files: PortFiles) -> list[AnyFault]:
    """The mistakes of a benchmark with which the claimed speed comes out."""
    assert files.speed is not None
    found = []
    for fault in (fault for fault in CATALOGUE if fault.stage == "speed"):
        for params in fault.guesses:
            own = claim(files.speed, fault.apply(PortSpec(), params).speed)
            if abs(own.fps / files.speed.fps - 1) <= ALLOWED / 4:
                found.append(fault)
    return list(dict.fromkeys(found))


def _equally_likely(stage: str, faults: list[AnyFault]) -> list[Diagnosis]:
    """Make an answer of each fault with which the claimed figures come out; one without faults where none does."""
    if not faults:
        return [Diagnosis(faults=(), residual=None, confidence=0.0, stage=stage)]
    share = 0.95 / len(faults)
    return [Diagnosis(faults=(fault.id,), residual=None, confidence=share, stage=stage) for fault in faults]
