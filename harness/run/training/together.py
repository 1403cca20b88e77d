"""Several processes that train together, against one: what they compute, and how fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from harness.centernet2.cases import load_case
from harness.centernet2.rungs import Values
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, not_applicable
from harness.checks.training.step import compare_processes
from harness.exchange.training_case.write import write_coco
from harness.faults.training import TRAINING_FAULTS
from harness.files import whole_folder
from harness.report.records import Diagnosis, Latency, Perf
from harness.run.training.options import BATCH
from harness.run.training.session import CASES, TrainingSession
from harness.run.training.worker import CASE, IMAGES, SPLIT, TIMED, WARM_UP, Job, run_job, take_steps
from harness.training.devices import training_device
from harness.training.processes import Processes, launch

PUBLISHED = "published: 92.0 % of 8 GPUs, 81.7 % of 8 NPUs"
STAGE, SPEED = "training-processes", "training-speed"


def processes(session: TrainingSession, name: str) -> StageResult:
    """Hold two processes of one image each to one process of two images: losses, gradients, parameters.

    In float32, whatever the precision of the run: what processes share are counts and gradients, and no layers.
    """
    reason = _not_together(session, name)
    if reason is not None:
        return not_applicable(STAGE, BATCH, reason)
    got = _stepped(session, name, 2, None)
    expected = take_steps(session.port(name, "fp32"), load_case(CASE), Processes())
    return judge(STAGE, BATCH, compare_processes(got, expected))


def diagnose_processes(session: TrainingSession, name: str) -> list[Diagnosis]:
    """Find the known mistakes of several processes that explain what they computed."""
    if _not_together(session, name) is not None:
        return []
    got = _stepped(session, name, 2, None)
    found = [
        fault.id
        for fault in TRAINING_FAULTS
        if fault.rung == "processes"
        and not any(one.problem for one in compare_processes(got, _stepped(session, "cpu", 2, fault.id)))
    ]
    if not found:
        return [Diagnosis(faults=(), residual=None, confidence=0.0, stage=STAGE)]
    return [Diagnosis(faults=(one,), residual=None, confidence=1 / len(found), stage=STAGE) for one in found]


def _not_together(session: TrainingSession, name: str) -> str | None:
    """Say why two processes cannot train together here; None where they can."""
    if session.dumps:
        return "the step was run elsewhere, and cannot be run again here"
    if session.options.processes < 2:
        return "--processes 1"
    there = training_device(name).count()
    return None if there >= 2 else f"this host has {there} of device {name}"


def _stepped(session: TrainingSession, name: str, count: int, fault: str | None) -> Values:
    return _run(session, make_job(session, "steps", name, fault), count)


def make_job(session: TrainingSession, kind: str, name: str, fault: str | None = None) -> Job:
    """Make the job of the processes that train a device."""
    options = session.options
    weights, data = case_files(session)
    output = session.shared / f"{kind}-{name}-{fault}.npz"
    return Job.model_validate(
        {
            "kind": kind,
            "device": name,
            "network": options.network,
            "precision": "fp32" if kind == "steps" else options.precision,
            "weights": weights,
            "output": output,
            "data": data,
            "fault": fault,
        }
    )


def case_files(session: TrainingSession) -> tuple[Path, Path]:
    """Return the file of the weights, and the folder of a data set in COCO's layout, made where they are not there."""
    folder = session.shared
    weights, data = folder / "weights.pth", folder / "cases"
    with FileLock(folder / "cases.lock"):
        if not weights.exists():
            torch.save({"model": session.subject.model.state_dict()}, weights)
        if not data.exists():
            with whole_folder(data) as partial:
                (partial / "annotations").mkdir()
                (partial / SPLIT).mkdir()
                write_coco(load_case(CASES[0]), partial / SPLIT, partial / "annotations" / f"instances_{SPLIT}.json")
    return weights, data


def _run(session: TrainingSession, job: Job, count: int) -> Values:
    """Run a job in as many processes, and return what the first of them wrote."""
    job = job.model_copy(update={"output": job.output.with_stem(f"{job.output.stem}-{count}")})
    if not job.output.exists():
        file = job.output.with_suffix(".json")
        file.write_text(job.model_dump_json(), encoding="utf-8")
        if count == 1:
            run_job(job, Processes())
        else:
            session.say(f"{job.device}: {count} processes")
            launch(count, ["-m", "harness.run.training.worker", str(file)])
    with np.load(job.output) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def speed(session: TrainingSession, name: str) -> StageResult:
    """Measure images per second at one process and at several, with and without the wait for images."""
    if session.dumps:
        return not_applicable(SPEED, BATCH, "the step was run elsewhere, and cannot be run again here")
    if session.options.workers:
        return not_applicable(SPEED, BATCH, "processes of pytest that share the machine spoil each other's times")
    counts = [1] if _not_together(session, name) is not None else [1, session.options.processes]
    found = {count: _run(session, make_job(session, "speed", name), count) for count in counts}
    perf = tuple(one for count, values in found.items() for one in _speeds(count, values))
    told = [f"{one.fps:.3g} images/s ({one.interval})" for one in perf]
    if len(counts) > 1:
        scaling = perf[2].fps / (counts[1] * perf[0].fps)
        told.append(f"scaling to {counts[1]} processes {scaling:.1%} ({PUBLISHED})")
    timed = [Comparison(f"iterations timed at {count} processes", 0, 0, TIMED) for count in counts]
    result = judge(SPEED, BATCH, timed)
    return replace(result, stage=result.stage.model_copy(update={"detail": "; ".join(told)}), perf=perf)


def _speeds(count: int, values: Values) -> tuple[Perf, Perf]:
    """Return the speed of steps alone, and with the wait for images, as medians of what is timed."""
    steps, waits = values["seconds"][WARM_UP:].double(), values["waits"][WARM_UP:].double()
    window = f"median of iterations {WARM_UP + 1} to {WARM_UP + TIMED}, {count} process{'es' if count > 1 else ''}"
    images = IMAGES * count
    return (
        _perf(images, steps, f"training step, {window}"),
        _perf(images, steps + waits, f"training step and wait for images, {window}"),
    )


def _perf(images: int, seconds: torch.Tensor, interval: str) -> Perf:
    latency = Latency.of((seconds * 1000).tolist())
    return Perf(batch_size=images, fps=images / float(seconds.median()), latency_ms=latency, interval=interval)
