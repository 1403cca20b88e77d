"""The gate: nothing that an earlier document has may be worse or gone."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from harness.errors import HarnessError
from harness.files import read_regular
from harness.report.records import Accuracy, Document, Run

DOCUMENT_BYTES = 2**28
"""Most that a results document may have."""
AP_DROP_ALLOWED = 0.002
"""0.2 points: what CenterNet's own tables vary by between equal trainings lies at twice that."""
ROUNDING = 1e-9
"""A drop of exactly what is allowed may come out a little larger in binary fractions."""


def read_document(path: Path) -> Document:
    """Read a results document of schema 2, or of schema 1, which differs in what it does not say.

    Raises:
        HarnessError: The file is missing, or is no such document.
    """
    remedy = "make one with --results FILE, and give that"
    content = read_regular(path, "--baseline", DOCUMENT_BYTES, remedy=remedy)
    try:
        return Document.model_validate_json(_as_schema_2(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise HarnessError(
            f"not a results document of schema 1 or 2: {place + ': ' if place else ''}{first['msg']}",
            file=path,
            field="--baseline",
            remedy="make one with --results FILE",
        ) from error


def _as_schema_2(text: bytes) -> bytes:
    """Convert a document of schema 1, which does not count expected failures; leave anything else as it is."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text  # the validation says what is wrong with it
    if not isinstance(content, dict) or content.get("schema") != 1:
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


def check_matches(baseline: Document, path: Path, model: str, data_sha256: str, runs: list[tuple[str, str]]) -> None:
    """Refuse a baseline that nothing can be compared with.

    Args:
        baseline: The earlier document.
        path: Where it was read from.
        model: Name of the model card of this run.
        data_sha256: Content hash of this run's data.
        runs: (device, precision) of this run.

    Raises:
        HarnessError: It is of another model, other data, or none of these devices and precisions.
    """
    old_data = "none" if baseline.data is None else baseline.data.sha256
    old_runs = [(run.device, run.precision) for run in baseline.runs]
    if baseline.model != model:
        differing = f"model is '{baseline.model}', this run's is '{model}'"
    elif old_data != data_sha256:
        differing = f"data hash is {old_data[:12]}, this run's is {data_sha256[:12]}"
    elif not set(old_runs) & set(runs):
        differing = f"runs are {_names(old_runs)}, this run's are {_names(runs)}"
    else:
        return
    raise HarnessError(
        f"the baseline matches nothing of this run: its {differing}",
        file=path,
        field="--baseline",
        remedy="give the --results document of an earlier run with the same model, data, device and precision",
    )


def regressions(baseline: Document, runs: list[Run]) -> list[str]:
    """List all that is worse than it was: an AP, a stage that was green and is not, an estimated speed."""
    now = {(run.device, run.precision): run for run in runs}
    found = []
    for old in baseline.runs:
        new = now.get((old.device, old.precision))
        if new is not None:
            texts = (*_stages(old, new), *_accuracy(old, new), *_estimates(old, new))
            found += [f"{old.device} {old.precision}: {text}" for text in texts]
    return found


def _stages(old: Run, new: Run) -> list[str]:
    outcomes = {(stage.name, stage.batch_size): stage.outcome for stage in new.stages}
    sizes = {stage.batch_size for stage in new.stages}
    found = []
    for stage in old.stages:
        outcome = outcomes.get((stage.name, stage.batch_size), "not run")
        # Another --batch-sizes or -m chooses less; what was chosen must be as green as it was.
        chosen = stage.batch_size in sizes and any(s.name == stage.name for s in new.stages)
        if stage.outcome == "passed" and outcome != "passed" and chosen:
            found.append(f"stage {stage.name} at batch size {stage.batch_size} passed and is now {outcome}")
    return found


def _accuracy(old: Run, new: Run) -> list[str]:
    before: dict[int | None, Accuracy] = {accuracy.batch_size: accuracy for accuracy in old.accuracy}
    return [
        f"AP at batch size {now.batch_size} fell from {before[now.batch_size].AP:.4f} to {now.AP:.4f}, "
        f"by more than {AP_DROP_ALLOWED:.4f}"
        for now in new.accuracy
        if now.batch_size in before and before[now.batch_size].AP - now.AP > AP_DROP_ALLOWED + ROUNDING
    ]


def _estimates(old: Run, new: Run) -> list[str]:
    """A compiler's estimate is the same on every machine: the smallest step back is one."""
    before = {perf.batch_size: perf for perf in old.perf if perf.estimated}
    return [
        f"estimated fps at batch size {now.batch_size} fell from {before[now.batch_size].fps:.6g} to {now.fps:.6g}"
        for now in new.perf
        if now.estimated and now.batch_size in before and now.fps < before[now.batch_size].fps
    ]


def _names(runs: list[tuple[str, str]]) -> str:
    return ", ".join(f"{device} {precision}" for device, precision in runs) or "none"
