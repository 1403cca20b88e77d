"""Device `outputs`: a folder of outputs that another host made, in place of a chip that is not on this host."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.cards import DeviceCard, ModelCard
from harness.cards.device import Limit
from harness.centernet.heads import input_spec, join_heads, output_specs
from harness.centernet.networks.macs import card_gmacs
from harness.checks.speed import beside
from harness.devices.artifact import Artifact, Exported, Findings, StatedSpeed
from harness.devices.base import require_request
from harness.errors import HarnessError
from harness.exchange.output_folder import OutputFolder
from harness.exchange.tool_speed import read_speeds
from harness.types import Batch, Outputs

NAME = "outputs"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def outputs_card(folder: Path, chip: DeviceCard | None) -> DeviceCard:
    """Make the card of a folder; its files cannot prove where they come from, so they are never called silicon.

    Args:
        folder: Where the outputs are.
        chip: Of the device that they are said to come from.
    """
    said = "" if chip is None else f", said to be of {chip.name}"
    reason = "the outputs were made elsewhere: a clock here would time the reading of files"
    return DeviceCard(
        name=NAME if chip is None else f"{chip.name}:{NAME}",
        description=f"outputs made elsewhere{said}, read from {folder}",
        execution="elsewhere",
        toolchain="none",
        dialect="none",
        precisions=PRECISIONS if chip is None else chip.precisions,
        cannot=(Limit(what="perf", reason=reason),),
        published=() if chip is None else chip.published,
        chips=1 if chip is None else chip.chips,
        peak=None if chip is None else chip.peak,
    )


class OutputsDevice:
    """Outputs by image, where other devices compute them from pixels.

    Args:
        folder: Where they are.
        chip: Card of the device that they are said to come from.
        model: The contract of the model.
        open_folder: Opens the folder for the images of the run.
    """

    def __init__(
        self, folder: Path, chip: DeviceCard | None, model: ModelCard, open_folder: Callable[[], OutputFolder]
    ) -> None:
        self.card = outputs_card(folder, chip)
        self.model = model
        self.open_folder = open_folder

    @cached_property
    def outputs(self) -> OutputFolder:
        """The folder, checked for names and sizes.

        Raises:
            HarnessError: It is not what it should be; see `open_outputs`.
        """
        return self.open_folder()

    def check(self) -> None:
        """Raise HarnessError where the folder is not whole, or holds what belongs to no image."""
        _ = self.outputs

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Nothing is converted: what the folder holds, as the card calls it.

        Raises:
            HarnessError: The summary in the folder tells of another batch size.
        """
        require_request(self.card, exported, precision)
        summary = self.outputs.summary
        stated = None if summary is None else summary.argument("--batchsize", "--batch-size")
        if summary is not None and stated is not None and stated != str(batch_size):
            raise HarnessError(
                f"the outputs were made with batch size {stated}, and {batch_size} was asked for",
                file=summary.path,
                field="--batch-sizes",
                remedy=f"give --batch-sizes {stated}",
            )
        executed = {"made": "elsewhere", "outputs": self.outputs.description}
        if summary is not None:
            executed["command"] = " ".join(summary.arguments)
        inputs, outputs = (input_spec(self.model, batch_size),), output_specs(self.model, batch_size)
        return Artifact(self.outputs, inputs, outputs, batch_size, executed, Findings(stated=self._stated()))

    def _stated(self) -> tuple[StatedSpeed, ...]:
        gmac = card_gmacs(self.model)
        found = []
        for speed in read_speeds(self.outputs.layout.folders, len(self.outputs.dataset)):
            whole = speed.of_card(self.card)
            note = "; ".join([f"{whole.tool}: {whole.interval}", *beside(whole, self.card, self.model)])
            share = None if gmac is None else whole.share_of_peak(gmac, self.card)
            found.append(StatedSpeed(whole.fps, whole.batch_ms, note, share))
        return tuple(found)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Refuse: pixels do not say whose outputs are wanted.

        Raises:
            HarnessError: Always.
        """
        raise HarnessError("outputs made elsewhere are found by the image's id", remedy="call run_batch")

    def run_batch(self, artifact: Artifact, batch: Batch) -> Outputs:
        """Return the outputs of these images; those of padded slots are zero."""
        del artifact
        singles = [self.outputs.heads(image_id) for image_id in batch.image_ids]
        padding = len(batch.images) - len(singles)
        padded: dict[str, NDArray[np.floating]] = {
            head: np.pad(np.concatenate([single[head] for single in singles]), [(0, padding), (0, 0), (0, 0), (0, 0)])
            for head in self.model.output.heads
        }
        return join_heads(self.model, padded)

    def close(self) -> None:
        """Do nothing: a folder holds nothing open."""
