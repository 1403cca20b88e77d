"""Cost of the interval of an AP difference on a whole val2017, against COCO's own evaluation in the same run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from conformance.support.suite import ROOT

pytestmark = pytest.mark.catalogue

IMAGES, CATEGORIES, DETECTIONS = 5000, 80, 100
EVALUATIONS, MEGABYTES = 5.5, 1000
"""Evaluations of one side by the faster evaluator that the interval may cost (3.5 were measured); memory until then."""

PROGRAM = f"""
import json, re, time
from pathlib import Path
import numpy as np
from harness.checks.bootstrap import paired_bootstrap
from harness.data.dataset import Annotation, Category, ImageEntry, Instances
from harness.checks.evaluate import evaluate
from harness.checks.matching import match
from harness.data.detections import Results
from harness.types import Detections

random = np.random.default_rng(0)
share = 1 / np.arange(1, {CATEGORIES} + 1)
share /= share.sum()
annotations, sides = [], (Results(), Results())
for image in range({IMAGES}):
    count = random.poisson(7.3)
    corner, size = random.uniform(0, 500, (count, 2)), np.exp(random.uniform(2, 5.5, (count, 2)))
    kinds = random.choice({CATEGORIES}, count, p=share)
    for (x, y), (w, h), kind in zip(corner.tolist(), size.tolist(), kinds.tolist()):
        crowd = int(random.random() < 0.01)
        annotations.append(Annotation(len(annotations), image, kind + 1, (x, y, w, h), w * h, crowd))
    boxes = np.hstack([corner, corner + size])
    for results, noise in zip(sides, (0.05, 0.055)):
        near = boxes + random.normal(0, noise, boxes.shape) * np.tile(size, (1, 2))
        far = random.uniform(0, 500, ({DETECTIONS} - count, 4))
        far[:, 2:] += far[:, :2]
        scores = np.concatenate([random.beta(3, 2, count), random.beta(1, 6, len(far))]).astype(np.float32)
        labels = np.concatenate([kinds, random.choice({CATEGORIES}, len(far), p=share)])
        order = np.argsort(-scores)
        results.add(image, Detections(np.vstack([near, far]).astype(np.float32)[order], scores[order], labels[order]))
instances = Instances(
    tuple(ImageEntry(n, f"{{n}}.jpg", 640, 480) for n in range({IMAGES})),
    tuple(annotations),
    tuple(Category(n + 1, str(n)) for n in range({CATEGORIES})),
)
kinds = tuple(range(1, {CATEGORIES} + 1))
start = time.process_time()
golden, own = (match(instances, results, kinds) for results in sides)
difference = paired_bootstrap(own, golden)
interval_s = time.process_time() - start
# The peak of getrusage is also that of the process which started this one, until exec.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
megabytes = int(peak[1]) / 1024
start = time.process_time()
evaluate(instances, sides[0], kinds, evaluator="faster-coco-eval")
evaluation_s = time.process_time() - start
print(json.dumps({{
    "interval_s": interval_s,
    "evaluation_s": evaluation_s,
    "megabytes": megabytes,
    "interval": [difference.low, difference.loss, difference.high],
}}))
"""


def test_five_thousand_images_a_thousand_times_cost_little(capsys: pytest.CaptureFixture[str]) -> None:
    """Compare seconds of the processor, which other work on the machine does not lengthen as it does the clock."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)
    with capsys.disabled():
        took = f"{found['interval_s']:.0f} s of processor, an evaluation {found['evaluation_s']:.0f} s"
        print(f"\npaired bootstrap of {IMAGES} images: {took}; {found['megabytes']:.0f} MB in all")
    low, loss, high = found["interval"]
    assert low < loss < high < low + 0.02
    assert found["interval_s"] < EVALUATIONS * found["evaluation_s"]
    assert found["megabytes"] < MEGABYTES
