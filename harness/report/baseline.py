"""The gate: nothing that an earlier document has may be worse or gone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from harness.checks.verdict import SPEED_STAGES
from harness.errors import HarnessError
from harness.files import read_regular
from harness.report.baseline_speed import SpeedGate, compare_speeds
from harness.report.records import AGAINST, Accuracy, Document, Run, Verdict

DOCUMENT_BYTES = 2**28
"""Most that a results document may have; one of ten devices at four batch sizes has some hundred thousand."""
AP_DROP_ALLOWED = 0.002
"""0.2 points: what CenterNet's own tables vary by between equal trainings lies at twice that."""
ROUNDING = 1e-9
"""A drop of exactly what is allowed may come out a little larger in binary fractions."""
GREEN: tuple[Verdict, ...] = ("conforms", "measured", "undecided")
"""Verdicts of documents that serve as a baseline. An undecided run deviates nowhere, and its AP is measured."""


def read_document(path: Path, field: str = "--baseline") -> Document:
    """Read a results document of schema 2, or of schema 1, which differs in what it does not say.

    Args:
        path: Of the document.
        field: The option by which it was given.

    Raises:
        HarnessError: The file is missing, or is no such document.
    """
    remedy = "make one with --results FILE, and give that"
    content = read_regular(path, field, DOCUMENT_BYTES, remedy=remedy)
    try:
        document = Document.model_validate_json(_as_schema_2(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _no_document(f"{place + ': ' if place else ''}{first['msg']}", path, field) from error
    if "schema_" not in document.model_fields_set:
        raise _no_document("schema: Field required", path, field)
    if (repeated := _repeated(document)) is not None:
        raise _no_document(f"runs: {repeated} more than once", path, field)
    return document


def _no_document(why: str, path: Path, field: str) -> HarnessError:
    cause = f"not a results document of schema 1 or 2: {why}"
    return HarnessError(cause, file=path, field=field, remedy="make one with --results FILE")


def _repeated(document: Document) -> str | None:
    """Name what stands twice in a document, of which nobody can say which one a run is to be held to."""
    names = [f"{run.device} {run.precision}" for run in document.runs]
    for name, run in zip(names, document.runs, strict=True):
        stages = [f"stage {stage.name} at batch size {stage.batch_size}" for stage in run.stages]
        sizes = [f"AP at batch size {accuracy.batch_size}" for accuracy in run.accuracy]
        for some, of in ((names, ""), (stages, f"{name}: "), (sizes, f"{name}: ")):
            for one, count in Counter(some).items():
                if count > 1:
                    return of + one
    return None


def _as_schema_2(text: bytes) -> bytes:
    """Convert a document of schema 1, which does not count expected failures; leave anything else as it is."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text  # the validation says what is wrong with it
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != 1 or isinstance(schema, bool):
        return text
    runs = content.get("runs")
    total = 0
    for run in runs if isinstance(runs, list) else []:
        stages = run.get("stages", []) if isinstance(run, dict) else []
        count = sum(isinstance(stage, dict) and stage.get("outcome") == "expected-failure" for stage in stages)
        if count:
            run["expected_failures"] = count
            total += count
    return json.dumps({**content, "schema": 2, "expected_failures": total}).encode()


@dataclass(frozen=True, slots=True)
class Gated:
    """A run that is to be no worse than a baseline.

    Attributes:
        model: Name of the model card.
        data_sha256: Content hash of the images.
        runs: (device, precision).
        batch_sizes: Those that are checked.
        weights_sha256: Of the PyTorch weights; None where there are none.
        onnx_sha256: Of the user's ONNX; None where none was given.
    """

    model: str
    data_sha256: str
    runs: tuple[tuple[str, str], ...]
    batch_sizes: tuple[int, ...]
    weights_sha256: str | None = None
    onnx_sha256: str | None = None


def check_matches(baseline: Document, path: Path, gated: Gated, *, allow_other_weights: bool = False) -> None:
    """Refuse a baseline that nothing can be compared with, or that is no green run.

    Args:
        baseline: The earlier document.
        path: Where it was read from.
        gated: The run that is about to begin.
        allow_other_weights: Whether it may be of another training, or another ONNX, of the same model.

    Raises:
        HarnessError: It is of another model, other data, other weights, or none of these devices, precisions and batch
            sizes; or it deviates, is not complete, or holds nothing.
    """
    differing = _differing(baseline, gated)
    if differing is not None:
        raise HarnessError(
            f"the baseline matches nothing of this run: its {differing}",
            file=path,
            field="--baseline",
            remedy="give the --results document of an earlier run with the same model, data, device, precision and "
            "batch sizes",
        )
    for verdict, where in ((baseline.verdict, ""), *_verdicts(baseline, gated)):
        if verdict not in GREEN:
            raise HarnessError(
                f"the baseline is no green run: its verdict{where} is '{verdict}'",
                file=path,
                field="--baseline",
                remedy="give the --results document of a run that conforms",
            )
    if not allow_other_weights and weights_known(baseline):
        _check_weights(baseline, path, gated)


def _differing(baseline: Document, gated: Gated) -> str | None:
    """Name the first thing that keeps everything from being compared; None where nothing does."""
    old_data = "none" if baseline.data is None else baseline.data.sha256
    old_runs = [(run.device, run.precision) for run in baseline.runs]
    common = [run for run in baseline.runs if (run.device, run.precision) in gated.runs]
    sizes = {size for run in common for size in _sizes(run)}
    if baseline.model != gated.model:
        return f"model is '{baseline.model}', this run's is '{gated.model}'"
    if old_data != gated.data_sha256:
        return f"data hash is {old_data[:12]}, this run's is {gated.data_sha256[:12]}"
    if not common:
        return f"runs are {_names(old_runs)}, this run's are {_names(gated.runs)}"
    if not sizes:
        return f"runs of {_names([(run.device, run.precision) for run in common])} hold no stage, no AP and no speed"
    if not sizes & set(gated.batch_sizes):
        return f"batch sizes are {_listed(sizes)}, this run's are {_listed(gated.batch_sizes)}"
    return None


def _verdicts(baseline: Document, gated: Gated) -> Iterator[tuple[Verdict, str]]:
    """Verdict of each run that is compared; one with a failed stage deviates, whatever it says of itself."""
    for run in baseline.runs:
        if (run.device, run.precision) in gated.runs:
            failed = any(stage.outcome == "failed" for stage in run.stages)
            yield "deviates" if failed else run.verdict, f" on {run.device} {run.precision}"


def weights_known(baseline: Document) -> bool:
    """Tell whether a document says what its weights or its ONNX were; those before 2026-12 do not."""
    return baseline.weights_sha256 is not None or baseline.onnx_sha256 is not None


def _check_weights(baseline: Document, path: Path, gated: Gated) -> None:
    pairs = {
        "weights": (baseline.weights_sha256, gated.weights_sha256),
        "weights (ONNX)": (baseline.onnx_sha256, gated.onnx_sha256),
    }
    for what, (old, new) in pairs.items():
        if old != new:
            texts = ("none" if sha256 is None else f"sha256 {sha256[:12]}" for sha256 in (old, new))
            raise HarnessError(
                "the baseline is of other {}: {}, this run's: {}".format(what, *texts),
                file=path,
                field="--baseline",
                remedy="give a baseline of the same file, or --allow-other-weights to hold a new training to the old",
            )


def regressions(baseline: Document, runs: Sequence[Run]) -> list[str]:
    """List all that is worse than it was: an AP, a stage that was green and is not, an estimated speed."""
    found = []
    for old, new in _pairs(baseline, runs):
        texts = (*_stages(old, new), *_accuracy(old, new), *_estimates(old, new))
        found += [f"{old.device} {old.precision}: {text}" for text in texts]
    return found


def uncompared(baseline: Document, runs: Sequence[Run]) -> list[str]:
    """List the runs that would be green though nothing of the baseline says anything about them."""
    found = []
    for old, new in _pairs(baseline, runs):
        if new.verdict in ("deviates", "error", "incomplete"):
            continue
        green = {(stage.name, stage.batch_size) for stage in old.stages if stage.outcome == "passed"}
        stages = green & {(stage.name, stage.batch_size) for stage in new.stages}
        aps = {one.batch_size for one in old.accuracy} & {one.batch_size for one in new.accuracy}
        estimates = _estimated(old).keys() & _estimated(new).keys()
        judged = any(stage.name not in SPEED_STAGES for stage in old.stages)
        if not (stages or aps or estimates):
            found.append(f"{old.device} {old.precision}: no stage, no AP and no estimate in common with the baseline")
        elif judged and new.accuracy and not aps:
            found.append(f"{old.device} {old.precision}: no AP in common with the baseline")
    return found


def speeds_beside(baseline: Document, runs: Sequence[Run], allowed: float) -> SpeedGate:
    """Compare the measured speeds of all runs, see `compare_speeds`."""
    found = [compare_speeds(old, new, allowed) for old, new in _pairs(baseline, runs)]
    return SpeedGate(*(tuple(chain.from_iterable(parts)) for parts in zip(*map(astuple, found), strict=True)))


def _pairs(baseline: Document, runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    now = {(run.device, run.precision): run for run in runs}
    for old in baseline.runs:
        new = now.get((old.device, old.precision))
        if new is not None:
            yield old, new


def _stages(old: Run, new: Run) -> list[str]:
    outcomes = {(stage.name, stage.batch_size): stage.outcome for stage in new.stages}
    chosen = {(stage.batch_size, stage.name in SPEED_STAGES) for stage in new.stages}
    found = []
    for stage in old.stages:
        outcome = outcomes.get((stage.name, stage.batch_size), "not run")
        # Another --batch-sizes, or -m perf in place of -m accuracy, asks for less; what was asked for is owed whole.
        owed = (stage.batch_size, stage.name in SPEED_STAGES) in chosen
        owed = owed and (
            stage.name != AGAINST or outcome != "not run"
        )  # nothing is held to where --against is left out
        if stage.outcome == "passed" and outcome != "passed" and owed:
            found.append(f"stage {stage.name} at batch size {stage.batch_size} passed and is now {outcome}")
    return found


def _accuracy(old: Run, new: Run) -> list[str]:
    before: dict[int | None, Accuracy] = {accuracy.batch_size: accuracy for accuracy in old.accuracy}
    return [
        f"AP at batch size {now.batch_size} fell from {before[now.batch_size].AP:.4f} to {now.AP:.4f}, "
        f"by more than {AP_DROP_ALLOWED:.4f}"
        for now in new.accuracy
        if now.batch_size in before and not now.AP >= before[now.batch_size].AP - AP_DROP_ALLOWED - ROUNDING
    ]


def _estimates(old: Run, new: Run) -> list[str]:
    """A compiler's estimate is the same on every machine: the smallest step back is one."""
    before, after = _estimated(old), _estimated(new)
    return [
        f"estimated fps at batch size {size} fell from {before[size]:.6g} to {fps:.6g}"
        for size, fps in after.items()
        if size in before and not fps >= before[size]
    ]


def _estimated(run: Run) -> dict[int, float]:
    return {perf.batch_size: perf.fps for perf in run.perf if perf.estimated}


def _sizes(run: Run) -> set[int | None]:
    found: set[int | None] = {record.batch_size for record in run.stages}
    return found | {record.batch_size for record in run.accuracy} | {record.batch_size for record in run.perf}


def _names(runs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{device} {precision}" for device, precision in runs) or "none"


def _listed(sizes: Iterable[int | None]) -> str:
    return ", ".join("none" if size is None else str(size) for size in sorted(sizes, key=lambda size: size or 0))
