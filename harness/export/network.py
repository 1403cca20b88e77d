"""A network with the layout, dtype, activation and outputs of its model card."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.errors import HarnessError


class CardNetwork(nn.Module):
    """A copy of a network, in evaluation mode, with the input and the outputs of its card.

    It computes in the dtype of its weights: a float64 network gives float64 outputs.

    Raises:
        HarnessError: The network has other heads than the card.
    """

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        super().__init__()
        heads = network.heads if isinstance(network, HeadedNetwork) else {}
        different = [head for head, channels in card.head_channels.items() if heads.get(head) != channels]
        if different:
            raise HarnessError(
                f"the network has the heads {_shown(heads)}, the card '{card.name}' says {_shown(card.head_channels)}",
                field="output.heads",
                remedy="correct the card's heads, box or category_ids, or give the network that it describes",
            )
        self.network = copy.deepcopy(network).eval()
        self.nhwc = card.input.layout == "NHWC"
        self.sigmoid = card.output.hm == "probability"
        self.concatenated = card.output.concatenated
        self.order = card.output.heads

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) or (N, H, W, 3) by the card -> its outputs (N, channels, h, w) in its order."""
        x = x.to(next(self.network.parameters()).dtype)
        heads: dict[str, Tensor] = self.network(x.permute(0, 3, 1, 2) if self.nhwc else x)
        if self.sigmoid:
            heads["hm"] = torch.sigmoid(heads["hm"])
        outputs = tuple(heads[head] for head in self.order)
        return (torch.cat(outputs, 1),) if self.concatenated else outputs


def _shown(heads: dict[str, int]) -> str:
    return ", ".join(f"{head} ({channels} channels)" for head, channels in heads.items()) or "none"
