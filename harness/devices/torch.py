"""Device `torch`: the reference itself, PyTorch in float32 on the CPU."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from harness.cards import load_device_card
from harness.cards.device import CARDS
from harness.devices.base import Artifact, Exported, TensorSpec, require_batch_size, require_request
from harness.errors import HarnessError
from harness.export.network import CardNetwork
from harness.heads import output_specs
from harness.types import Outputs


class TorchDevice:
    """Eager PyTorch; takes any batch size and image size."""

    def __init__(self) -> None:
        self.card = load_device_card(CARDS / "torch.toml")

    def check(self) -> None:
        """Nothing is missing where this module could be imported."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Put a copy of the network behind its card.

        Raises:
            HarnessError: There is no network, it is not float32 or not of the card, or the precision is not fp32.
        """
        require_request(self.card, exported, precision)
        require_batch_size(None, batch_size)
        card, module = exported.card, exported.module
        if module is None:
            raise HarnessError(
                "device 'torch' runs the PyTorch network, and there is none",
                field="--weights",
                remedy="give weights and a card with [network], or another device",
            )
        dtypes = {parameter.dtype for parameter in module.parameters()}
        if dtypes != {torch.float32}:
            raise HarnessError(f"the weights are {', '.join(map(str, dtypes))}, and {precision} was asked for")
        image = (3, None, None) if card.input.layout == "NCHW" else (None, None, 3)
        return Artifact(
            CardNetwork(module, card),
            (TensorSpec(card.input.name, (None, *image), card.input.dtype),),
            tuple(TensorSpec(o.name, (None, o.shape[1], None, None), o.dtype) for o in output_specs(card, None)),
            None,
            {
                "provider": "PyTorch eager, CPU",
                "precision": "fp32",
                "threads": str(torch.get_num_threads()),
                "torch": torch.__version__,
            },
        )

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch; arrays are shared with PyTorch, not copied, where they are writable."""
        network = cast(CardNetwork, artifact.payload)
        with torch.inference_mode():
            outputs = network(torch.from_numpy(images if images.flags.writeable else images.copy()))
        return {spec.name: output.numpy() for spec, output in zip(artifact.outputs, outputs, strict=True)}
