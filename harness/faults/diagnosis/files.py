"""Which known mistakes explain the files of a port."""

from __future__ import annotations

from collections.abc import Sequence

from harness.centernet.preprocess import preprocess
from harness.checks.files import Golden, Judged, PortFiles
from harness.checks.port_files import BOX_ALLOWED, CLAIM_ALLOWED, SCORE_ALLOWED, read_input
from harness.checks.speed import ALLOWED
from harness.data.dataset import Dataset
from harness.exchange.heads import read_heads_file
from harness.exchange.stems import file_stems
from harness.faults import CATALOGUE, Fault, Setting
from harness.faults.base import FaultStage
from harness.faults.diagnosis.evidence import Evidence, HeadsEvidence, InputEvidence, RowsEvidence
from harness.faults.diagnosis.explanation import Explanation
from harness.faults.diagnosis.predict import Chain
from harness.faults.diagnosis.search import Diagnosis
from harness.faults.diagnosis.text import answers, as_records
from harness.faults.forms import Forms
from harness.faults.port import OutputsRunner, Runner, TorchRunner
from harness.faults.scoring import score_in
from harness.faults.speed import claim

IMAGES = 8
"""That a diagnosis looks at: the first, so that batches and gaps show."""
SOURCE: tuple[FaultStage, ...] = ("heads", "numeric", "batch", "preprocess", "network")


def diagnose_files(golden: Golden, dataset: Dataset, files: PortFiles, judged: Judged) -> list[str]:
    """Lines that name what explains the first stage that deviates, if one of them can be explained.

    Args:
        golden: The reference.
        dataset: The images.
        files: What the port wrote.
        judged: How it was judged.
    """
    wrong = {stage for stage, found in judged.items() if any(one.problem for one in found)}
    lines: list[str] = []
    some = dataset.first(IMAGES)
    for stage in ("preprocess", "heads", "detections"):
        if stage in wrong:
            found = explain_stage(stage, golden, some, files, len(dataset))
            lines += answers(as_records(found)) if found else ["unknown: the images that were looked at do not deviate"]
    if "evaluate" in wrong:
        lines += _told(_evaluation(dataset, files))
    if "speed" in wrong:
        lines += _told(_speed(files))
    return lines


def explain_stage(
    stage: str, golden: Golden, some: Dataset, files: PortFiles, count: int, catalogue: Sequence[Fault] = CATALOGUE
) -> list[Explanation]:
    """What explains the inputs, heads or detections that a port wrote for some images."""
    card, module = golden.subject.card, golden.subject.module
    images = [some.read_image(image_id) for image_id in some.image_ids]
    runner: Runner = OutputsRunner(card, golden.outputs) if module is None else TorchRunner(card, module)
    chain = Chain(card, runner, images, some.image_ids, max(card.batch_sizes), count=count)
    evidence = _evidence(stage, golden, some, files, chain)
    setting = Setting.of(card, module, golden.precision, max(card.batch_sizes))
    return Diagnosis(chain, evidence, setting, catalogue).explain()


def _evidence(stage: str, golden: Golden, some: Dataset, files: PortFiles, chain: Chain) -> Evidence:
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
    slope = 0.25 if card.output.hm == "logits" else 1.0
    unit = 1.0 if card.output.box_unit == "input" else float(card.decode.stride)
    margins = []
    for image, limits in zip(chain.images, allowed, strict=True):
        scale = max(image.shape[0] / card.input.height, image.shape[1] / card.input.width, 1.0)
        box = 0.0 if given else 2 * scale * (unit * limits["wh"] + card.decode.stride * limits.get("reg", 0.0))
        margins.append((SCORE_ALLOWED + (0.0 if given else 2 * slope * limits["hm"]), BOX_ALLOWED + box))
    late: tuple[FaultStage, ...] = ("decode", "results")
    rows = [[dict(row) for row in files.by_image.get(image_id, [])] for image_id in ids]
    return RowsEvidence(rows, margins, late if given else (*late, *stages))


def _evaluation(dataset: Dataset, files: PortFiles) -> list[Fault]:
    """The mistakes of an evaluation with which every claimed figure comes out."""
    assert files.claim is not None
    assert files.results is not None
    found = []
    for fault in (fault for fault in CATALOGUE if fault.stage == "evaluate"):
        for params in fault.guesses:
            own = score_in(fault.apply(Forms(), params).score, dataset.instances, files.results)
            if all(abs(own.get(name, -1) - value) <= CLAIM_ALLOWED for name, value in files.claim.items()):
                found.append(fault)
    return list(dict.fromkeys(found))


def _speed(files: PortFiles) -> list[Fault]:
    """The mistakes of a benchmark with which the claimed speed comes out."""
    assert files.speed is not None
    found = []
    for fault in (fault for fault in CATALOGUE if fault.stage == "perf"):
        for params in fault.guesses:
            own = claim(files.speed, fault.apply(Forms(), params).speed)
            if abs(own.fps / files.speed.fps - 1) <= ALLOWED / 4:
                found.append(fault)
    return list(dict.fromkeys(found))


def _told(faults: list[Fault]) -> list[str]:
    if not faults:
        return ["unknown: none of the known mistakes gives these figures"]
    share = 0.95 / len(faults)
    return [f"{fault.description}: the figures come out so (confidence {share:.2f}; {fault.id})" for fault in faults]
