"""Tries the catalogue of known mistakes on the reference where the heads of a device deviate."""

from __future__ import annotations

import numpy as np

from conformance.plugin.bench import GOLDEN, Bench
from harness.centernet.heads import split_outputs
from harness.devices.artifact import Artifact
from harness.devices.base import run_batch
from harness.faults import CATALOGUE, Setting
from harness.faults.diagnosis.evidence import HeadsEvidence
from harness.faults.diagnosis.explanation import Hypothesis
from harness.faults.diagnosis.predict import Chain
from harness.faults.diagnosis.search import SECONDS, Diagnosis
from harness.faults.diagnosis.text import as_records
from harness.faults.port import Arrays, OutputsRunner, Runner, TorchRunner
from harness.report import records
from harness.run.pipeline import batches


def diagnose(bench: Bench, name: str, batch_size: int) -> list[records.Diagnosis]:
    """Which known mistakes explain the heads of a device; nothing where it gave none or none can be held to a limit.

    Args:
        bench: Model, data and devices.
        name: Of the device.
        batch_size: With which it was run.
    """
    heads = _as_given(bench, name, batch_size)
    if not heads or not bench.tolerance.derivable:
        return []
    images = [bench.dataset.read_image(image_id) for image_id in bench.sample_ids]
    chain = Chain(bench.card, _runner(bench), images, bench.sample_ids, batch_size)
    evidence = HeadsEvidence(heads, bench.allowed)
    setting = Setting.of(bench.card, bench.subject.module, bench.config.precision, batch_size)
    earlier = bench.explained.get(name)
    # What was sought for in vain at one batch size is hardly found at another, unless it is about batches.
    seconds = SECONDS if earlier is None else SECONDS / 4
    search = Diagnosis(chain, evidence, setting, CATALOGUE, seconds)
    if earlier is not None and earlier.faults and search.explained_by(Hypothesis(earlier.faults, earlier.params)):
        return []  # told at another batch size
    found = search.explain()
    if found:
        bench.explained[name] = found[0]
    return as_records(found)


def _runner(bench: Bench) -> Runner:
    subject = bench.subject
    if subject.module is not None:
        return TorchRunner(bench.card, subject.module)
    artifact: Artifact = bench.artifact(bench.reference_name, bench.reference_batch_size, GOLDEN)
    return OutputsRunner(bench.card, lambda images: subject.reference.run(artifact, images))


def _as_given(bench: Bench, name: str, batch_size: int) -> list[Arrays]:
    """The device's outputs as heads, of whatever shape; nothing where outputs are missing."""
    card, device, artifact = bench.card, bench.device(name), bench.artifact(name, batch_size)
    found: list[Arrays] = []
    for batch in batches(card, bench.dataset, batch_size, bench.sample_ids):
        outputs = {key: np.asarray(value) for key, value in run_batch(device, artifact, batch).items()}
        if any(key not in outputs for key in card.output.names):
            return []
        named = split_outputs(card, outputs)
        if any(len(values) != len(batch.images) for values in named.values()):
            return []
        found += [{key: v[i : i + 1] for key, v in named.items()} for i in range(len(batch.image_ids))]
    return found
