"""Diagnosis of a device whose heads deviate: the catalogue of known mistakes, tried on the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.cards import require_one_stage
from harness.centernet.heads import split_outputs
from harness.checks.outcome import StageResult
from harness.devices.base import ByImage, run_batch
from harness.faults import CATALOGUE, Setting
from harness.faults.diagnosis.evidence import HeadsEvidence
from harness.faults.diagnosis.explanation import Hypothesis
from harness.faults.diagnosis.predict import Chain
from harness.faults.diagnosis.search import Search
from harness.faults.diagnosis.search_table import TABLE
from harness.faults.diagnosis.text import answers, as_records
from harness.faults.port import OutputsRunner, Runner, TorchRunner
from harness.faults.stages.numeric import Arrays
from harness.report import records
from harness.report.escape import printable
from harness.run.pipeline import batches
from harness.run.reference import Reference
from harness.run.session import Session


def diagnose_device(session: Session, name: str, batch_size: int) -> list[records.Diagnosis]:
    """Find the known mistakes that explain the heads of a device.

    Args:
        session: Model, data and devices.
        name: Of the device.
        batch_size: With which it was run.

    Returns:
        Answers, the surest first; none where the device gave no heads, or none that can be held to a limit.
    """
    heads = _as_given(session, name, batch_size)
    if not heads or not session.tolerance.derivable:
        return []
    images = [session.dataset.read_image(image_id) for image_id in session.sample_ids]
    card = require_one_stage(session.card)
    chain = Chain(card, runner_of(session.reference), images, session.sample_ids, batch_size)
    chain.repeated = not isinstance(session.device(name), ByImage)  # outputs of files come from a run of their own
    evidence = HeadsEvidence(heads, session.samples.allowed)
    setting = Setting.of(card, session.subject.module, session.options.precision, batch_size)
    earlier = session.explained.get(name)
    # What was sought for in vain at one batch size is hardly found at another, unless it is about batches.
    budget = TABLE.cost.budget if earlier is None else TABLE.cost.budget_again
    search = Search(chain, evidence, setting, CATALOGUE, budget)
    if earlier is not None and earlier.faults and search.explained_by(Hypothesis(earlier.faults, earlier.params)):
        return []  # told at another batch size
    found = search.explain()
    if found:
        session.explained[name] = found[0]
    return as_records(found) if found else []


def failure_text(result: StageResult, diagnosis: Sequence[records.Diagnosis], device: str, precision: str) -> str:
    """The message of a stage that is not green, with the known mistakes that explain it."""
    lines = [f"  diagnosis: {printable(line)}" for line in answers(diagnosis)]
    return "\n".join([result.message(device, precision), *lines])


def runner_of(reference: Reference) -> Runner:
    """The reference's network as the catalogue runs it: in PyTorch, or known by its outputs only."""
    subject = reference.subject
    if subject.module is not None:
        return TorchRunner(subject.card, subject.module)
    return OutputsRunner(subject.card, reference.outputs)


def _as_given(session: Session, name: str, batch_size: int) -> list[Arrays]:
    """The device's outputs as heads, of whatever shape; nothing where outputs are missing.

    The last batch is run first and not looked at: what is stale in the first batch is then known.
    """
    card, device, artifact = require_one_stage(session.card), session.device(name), session.artifact(name, batch_size)
    found: list[Arrays] = []
    every = list(batches(card, session.dataset, batch_size, session.sample_ids))
    run_batch(device, artifact, every[-1])
    for batch in every:
        outputs = {key: np.asarray(value) for key, value in run_batch(device, artifact, batch).items()}
        if any(key not in outputs for key in card.output.names):
            return []
        named = split_outputs(card, outputs)
        if any(len(values) != len(batch.images) for values in named.values()):
            return []
        found += [{key: v[i : i + 1] for key, v in named.items()} for i in range(len(batch.image_ids))]
    return found
