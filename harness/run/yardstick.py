"""A small fixed network, timed beside a model on the same device: what a speed is divided by to outlive the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.cards import ModelCard, load_card
from harness.centernet.networks import HeadedNetwork, create_model
from harness.data.calibration import Calibration
from harness.devices.base import time_batches
from harness.errors import HarnessError
from harness.run.images import load_images
from harness.run.subject import Subject

if TYPE_CHECKING:  # which holds the devices
    from harness.run.alternate import Timed
    from harness.run.session import Session

ARCH, WIDTH, SIDE, HEAD_CONV = "res_18", 0.25, 128, 16
NAME = f"yardstick-2: {ARCH} of width {WIDTH}, {SIDE} x {SIDE}, batch size 1"
"""Another network, or another way to time it, is another yardstick: count it up with any change, and old documents are
not compared. 1 was a single call before each batch."""


def yardstick_card() -> ModelCard:
    """Return the contract of the network: that of the embedded model, smaller."""
    card = load_card("embedded")
    assert isinstance(card, ModelCard)
    assert card.network is not None
    network = card.network.model_copy(update={"arch": ARCH, "width": WIDTH, "head_conv": HEAD_CONV, "weights": None})
    taken = card.input.model_copy(update={"height": SIDE, "width": SIDE})
    return card.model_copy(update={"name": "yardstick", "network": network, "input": taken})


def yardstick_network(card: ModelCard) -> HeadedNetwork:
    """Build the network with the same weights everywhere; their values are noise, which costs the same time."""
    module = create_model(ARCH, card.head_channels, HEAD_CONV, WIDTH)
    random = np.random.default_rng(0)
    for parameter in module.parameters():
        values = random.normal(0, 0.02, tuple(parameter.shape)).astype(np.float32)
        parameter.data = torch.from_numpy(values)
    return module.eval().requires_grad_(False)


def open_yardstick(session: Session, name: str) -> Timed | str:
    """Make the network run on a device.

    Args:
        session: Holds the device.
        name: Of the device.

    Returns:
        A call that runs it once and returns the seconds; or the reason why the device has none.
    """
    device, precision = session.device(name), session.options.precision
    if device.card.dialect == "none":
        return "the device has outputs of one model, and runs no other"
    card = yardstick_card()
    subject = Subject(card, yardstick_network(card), None, "yardstick-1")
    calibration = None
    if precision == "int8":
        calibration = Calibration(card, load_images(session.options.coco), session.options.calibration_images)
    try:
        exported = subject.exported(device.card, session.shared, 1, calibration)
        artifact = device.convert(exported, 1, precision)
    except HarnessError as error:
        return f"the device does not take it: {error.cause}"
    images = np.zeros((1, 3, SIDE, SIDE), card.input.dtype)

    def run() -> float:
        return time_batches(device, artifact, images, 1)[0]

    return run
