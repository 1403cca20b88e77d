"""Device `torch`: PyTorch on the CPU, in float32 the reference itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.cards import TwoStageCard, load_device_card
from harness.cards.device import card_file
from harness.centernet.heads import output_specs
from harness.centernet.ops import DCNv2
from harness.centernet2 import CenterNet2, inference
from harness.devices.artifact import Artifact, Exported, TensorSpec, require_batch_size
from harness.devices.base import RunnerDevice, require_request
from harness.devices.runners import torch as runner
from harness.errors import HarnessError
from harness.export.fold import fold_every_batch_norm
from harness.export.network import CardNetwork


class TorchDevice(RunnerDevice):
    """Eager PyTorch; takes any batch size and image size.

    Args:
        name: Of the device, which is that of its card.
    """

    def __init__(self, name: str = "torch") -> None:
        super().__init__(load_device_card(card_file(name)))

    def check(self) -> None:
        """Accept every host: nothing is missing where this module could be imported."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Put a copy of the network behind its card.

        Raises:
            HarnessError: There is no network, it is not float32 or not of the card, or it does not run at the
                precision.
        """
        require_request(self.card, exported, precision)
        require_batch_size(None, batch_size)
        module = exported.module
        if module is None:
            raise HarnessError(
                "device 'torch' runs the PyTorch network, and there is none",
                field="--weights",
                remedy="give weights and a card with [network], or another device",
            )
        dtypes = {parameter.dtype for parameter in module.parameters()}
        if dtypes != {torch.float32}:
            raise HarnessError(f"the weights are {', '.join(map(str, dtypes))}, and {precision} was asked for")
        if isinstance(exported.card, TwoStageCard):
            return self._two_stage(module, precision)
        card = exported.one_stage
        network: nn.Module = CardNetwork(module, card)
        executed = "fp32"
        if precision == "bf16":
            kept = sum(isinstance(part, DCNv2) for part in network.modules())
            fold_every_batch_norm(network)
            network = Bfloat16(network)
            executed = f"bf16 by autocast, {kept} DCNv2 in fp32" if kept else "bf16 by autocast"
        image = (3, None, None) if card.input.layout == "NCHW" else (None, None, 3)
        outputs = tuple(TensorSpec(o.name, (None, o.shape[1], None, None), o.dtype) for o in output_specs(card, None))
        return Artifact(
            self.open(runner, {"module": network, "outputs": [output.name for output in outputs]}),
            (TensorSpec(card.input.name, (None, *image), card.input.dtype),),
            outputs,
            None,
            _executed(executed),
        )

    def _two_stage(self, module: nn.Module, precision: str) -> Artifact:
        if precision != "fp32" or not isinstance(module, CenterNet2):
            raise HarnessError(
                f"device '{self.card.name}' runs a two-stage detector in fp32 only: there is no tolerance of its "
                f"detections at {precision}",
                field="--precision",
                remedy="give --precision fp32",
            )
        network = inference.InSlots(module)
        link = self.open(runner, {"module": network, "outputs": list(inference.OUTPUTS)})
        return Artifact(link, (inference.input_spec(None),), inference.output_specs(None), None, _executed(precision))


def _executed(precision: str) -> dict[str, str]:
    return {
        "provider": "PyTorch eager, CPU",
        "precision": precision,
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
    }


class Bfloat16(nn.Module):
    """A network whose convolutions take and give bfloat16, but for the deformable ones with what steers them.

    Weights are rounded where they are used. Changes the network that it is given.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for part in list(network.modules()):
            for name, child in list(part.named_children()):
                if isinstance(child, DCNv2):
                    setattr(part, name, _Float32(child))
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the network, as float32 that bfloat16 holds exactly."""
        with torch.autocast("cpu", torch.bfloat16):
            outputs: tuple[Tensor, ...] = self.network(x)
        return tuple(output.float() for output in outputs)


class _Float32(nn.Module):
    """A part that autocast leaves alone."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            result: Tensor = self.part(x.float())
        return result
