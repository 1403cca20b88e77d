"""Backbone of CenterNet2: ResNet-50 with frozen batch norm, and a feature pyramid P3 to P7.

The names of the parameters are the official ones. The stride of a stage is in its first 1x1 convolution, as in the MSRA
weights that the training starts from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from harness.cards.centernet2 import TwoStageNetwork

BLOCKS = (3, 4, 6, 3)
"""Bottlenecks of res2 to res5."""
FROZEN = ("stem", "res2")
"""Parts that the official training does not train."""


class NormedConv(nn.Conv2d):
    """A convolution without bias, and a batch norm with fixed statistics.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Side of the kernel, which is padded to keep the size.
        stride: Stride.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = FrozenBatchNorm2d(outputs)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised output (N, outputs, H, W)."""
        return self.norm(super().forward(input))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut.

    Args:
        inputs: Input channels.
        bottleneck: Channels of the 3x3 convolution.
        outputs: Output channels.
        stride: Of the first 1x1 convolution and of the shortcut.
    """

    def __init__(self, inputs: int, bottleneck: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = NormedConv(inputs, outputs, stride=stride) if inputs != outputs else None
        self.conv1 = NormedConv(inputs, bottleneck, stride=stride)
        self.conv2 = NormedConv(bottleneck, bottleneck, 3)
        self.conv3 = NormedConv(bottleneck, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, outputs, H / stride, W / stride)."""
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Stem(nn.Module):
    """A 7x7 convolution and a maximum pooling, each of stride 2."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv1 = NormedConv(3, outputs, 7, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, outputs, H / 4, W / 4)."""
        return F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)


class ResNet50(nn.Module):
    """The features of res3, res4 and res5, of strides 8, 16 and 32; stem and res2 are not trained."""

    def __init__(self, network: TwoStageNetwork) -> None:
        super().__init__()
        self.stem = Stem(network.stem)
        inputs = network.stem
        self.channels: list[int] = []
        for index, blocks in enumerate(BLOCKS):
            bottleneck, outputs = network.bottleneck << index, network.features << index
            stride = 1 if index == 0 else 2
            stage = [
                Bottleneck(inputs if place == 0 else outputs, bottleneck, outputs, stride if place == 0 else 1)
                for place in range(blocks)
            ]
            setattr(self, f"res{index + 2}", nn.Sequential(*stage))
            self.channels.append(outputs)
            inputs = outputs
        for name in FROZEN:
            getattr(self, name).requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of res3, res4 and res5."""
        x = self.stem(x)
        found = []
        for index in range(len(BLOCKS)):
            x = getattr(self, f"res{index + 2}")(x)
            found.append(x)
        return found[1:]


class TopBlock(nn.Module):
    """P6 and P7, made of P5 by convolutions of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.p7 = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, p5: Tensor) -> list[Tensor]:
        """Return P6, without a ReLU, and P7."""
        p6 = self.p6(p5)
        return [p6, self.p7(F.relu(p6))]


class Pyramid(nn.Module):
    """The backbone with its feature pyramid: P3 to P7, of strides 8 to 128.

    Args:
        network: Channels.
    """

    def __init__(self, network: TwoStageNetwork) -> None:
        super().__init__()
        self.bottom_up = ResNet50(network)
        for level, channels in zip((3, 4, 5), self.bottom_up.channels[1:], strict=True):
            setattr(self, f"fpn_lateral{level}", nn.Conv2d(channels, network.fpn, 1))
            setattr(self, f"fpn_output{level}", nn.Conv2d(network.fpn, network.fpn, 3, padding=1))
        self.top_block = TopBlock(network.fpn)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and "bottom_up" not in name:
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return P3 to P7 of a batch (N, 3, H, W), each (N, channels, H / stride, W / stride)."""
        return self._pyramid(self.bottom_up(images))

    def _pyramid(self, features: Sequence[Tensor]) -> list[Tensor]:
        merged: Tensor | None = None
        found: list[Tensor] = []
        for level, feature in zip((5, 4, 3), reversed(features), strict=True):
            lateral = getattr(self, f"fpn_lateral{level}")(feature)
            merged = lateral if merged is None else lateral + F.interpolate(merged, scale_factor=2.0, mode="nearest")
            found.insert(0, getattr(self, f"fpn_output{level}")(merged))
        return [*found, *self.top_block(found[-1])]
