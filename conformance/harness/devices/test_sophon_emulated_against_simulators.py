"""tpu_mlir's interpreter, which serves for hundreds of images, held to the simulators on the embedded models."""

from pathlib import Path

import numpy as np
import pytest

from harness.cards import load_model_card
from harness.centernet.heads import read_heads
from harness.centernet.preprocess import preprocess
from harness.data.calibration import Calibration
from harness.data.dataset import load_coco
from harness.data.synthetic import embedded_dataset_root
from harness.devices.registry import create_device
from harness.run.reference import Reference
from harness.run.subject import load_subject

pytestmark = pytest.mark.simulator

IMAGES = 8
SHARE = 0.5
"""Of what a right port may differ by from the reference, or at int8, for which nothing says that, of what it does."""


CASES = [("embedded", chip, precision) for chip in ("bm1684x", "bm1684") for precision in ("fp32", "int8")]
CASES += [("embedded", "bm1684x", "fp16"), ("embedded_dlav0", "bm1684x", "int8"), ("embedded_dlav0", "bm1684", "int8")]


@pytest.mark.parametrize(("model", "chip", "precision"), CASES)
def test_interpreter_is_far_closer_to_the_simulator_than_either_may_be_to_the_reference(
    tmp_path: Path, model: str, chip: str, precision: str
) -> None:
    card, dataset = load_model_card(model), load_coco(embedded_dataset_root("val"))
    subject = load_subject(card, None, None)
    golden = Reference(subject, "fp32" if precision == "int8" else precision)
    simulated, emulated = create_device(f"{chip}:simulated"), create_device(f"{chip}:emulated")
    calibration = Calibration(card, dataset) if precision == "int8" else None
    exported = subject.exported(simulated.card, tmp_path, 1, calibration)
    compiled, lowered = (device.convert(exported, 1, precision) for device in (simulated, emulated))
    for image_id in dataset.image_ids[:IMAGES]:
        images = preprocess(card, dataset.read_image(image_id))[0][None]
        right = golden.heads(images)
        of_chip = read_heads(card, simulated.run(compiled, images), 1)
        of_host = read_heads(card, emulated.run(lowered, images), 1)
        allowed = golden.allowed(images, right)
        for name, head in of_chip.items():
            if precision == "int8":
                allowed[name] = float(np.abs(head - right[name]).max())
            measured = float(np.abs(head - of_host[name]).max())
            assert measured <= SHARE * allowed[name], f"image {image_id}, {name}: {measured:.3g} of {allowed[name]:.3g}"
