"""`res_N` and `resdcn_N`: ResNet with three upsampling stages, plain or with a DCNv2 before each."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from harness.centernet.networks.heads import HeadedNetwork
from harness.centernet.ops import DCNv2

LAYERS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(HeadedNetwork):
    """ResNet trunk, three stages that double the resolution, heads."""

    def __init__(self, heads: Mapping[str, int], head_conv: int, depth: int, *, width: float, dcn: bool) -> None:
        planes = [int(p * width) for p in (64, 128, 256, 512)]
        up_channels = [int(c * width) for c in ((256, 128, 64) if dcn else (256, 256, 256))]
        super().__init__(heads, up_channels[-1], head_conv)
        block, repeats = LAYERS[depth]
        self.conv1 = nn.Conv2d(3, planes[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = planes[0]
        for i, (count, out) in enumerate(zip(repeats, planes, strict=True), start=1):
            self.add_module(f"layer{i}", _stage(block, channels, out, count, stride=1 if i == 1 else 2))
            channels = out * block.expansion
        stages: list[nn.Module] = []
        for out in up_channels:
            if dcn:
                stages += [DCNv2(channels, out), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
                up = nn.ConvTranspose2d(out, out, 4, 2, 1, bias=False)
            else:
                up = nn.ConvTranspose2d(channels, out, 4, 2, 1, bias=False)
                nn.init.normal_(up.weight, std=0.001)
            stages += [up, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            channels = out
        self.deconv_layers = nn.Sequential(*stages)

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H / 4, W / 4)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        result: Tensor = self.deconv_layers(x)
        return result


def _stage(block: type[BasicBlock | Bottleneck], channels: int, planes: int, count: int, stride: int) -> nn.Sequential:
    out = planes * block.expansion
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    first = block(channels, planes, stride, shortcut)
    return nn.Sequential(first, *(block(out, planes) for _ in range(count - 1)))
