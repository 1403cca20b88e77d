"""DCNv2 for maps of one size, with all constants folded into its weights: the form of the decomposed dialect."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.centernet.ops.dcn import DCNv2
from harness.centernet.ops.decomposed import kernel_positions, sample


class SampledDCNv2(nn.Module):
    """A DCNv2 at any offset as one convolution, one GridSample, a product and a strided convolution.

    The convolution of offsets and mask gives positions (x, y) as GridSample normalises them: order and scale are folded
    into its weights. (N, in_channels, H, W) -> (N, out_channels, h, w).

    Args:
        dcn: The layer, of which the weights are copied.
        height: Height of the maps in pixels.
        width: Width of the maps in pixels.
    """

    base: Tensor

    def __init__(self, dcn: DCNv2, height: int, width: int) -> None:
        super().__init__()
        out, channels, kh, kw = dcn.weight.shape
        self.points = kh * kw
        self.groups = dcn.conv_offset_mask.out_channels // (3 * self.points)
        count = 2 * self.groups * self.points
        self.offsets = count
        stride, padding, dilation = dcn.stride, dcn.padding, dcn.dilation
        given = dcn.conv_offset_mask
        asked = given.weight.detach(), given.get_parameter("bias").detach()
        order = torch.arange(count).reshape(-1, 2).flip(1).reshape(-1)  # (y, x) becomes (x, y)
        scale = torch.tensor([2 / width, 2 / height], dtype=dcn.weight.dtype).repeat(count // 2)
        self.conv = nn.Conv2d(channels, len(asked[0]), (kh, kw), stride, padding, dilation)
        self.conv.weight = nn.Parameter(torch.cat((asked[0][order] * scale[:, None, None, None], asked[0][count:])))
        self.conv.bias = nn.Parameter(torch.cat((asked[1][order] * scale, asked[1][count:])))
        self.weight = nn.Parameter(dcn.weight.detach().reshape(out, channels, 1, self.points).clone())
        self.bias = nn.Parameter(dcn.bias.detach().clone())
        h, w = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel in ((height, kh), (width, kw))
        )
        pairs = (stride, stride), (padding, padding), (dilation, dilation)
        rows, columns = kernel_positions((h, w), (kh, kw), *pairs, self.weight.detach())
        centres = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=1)
        self.register_buffer("base", centres.reshape(1, -1, h, w).repeat(1, self.groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Sample `x` at the positions of its own convolution, and sum the samples with the weights."""
        samples, channels, height, width = x.shape
        parts, (h, w) = samples * self.groups, self.base.shape[-2:]
        asked = self.conv(x)
        grid = (asked[:, : self.offsets] + self.base).reshape(parts, -1, h, w).permute(0, 2, 3, 1)
        mask = asked[:, self.offsets :].reshape(parts, self.points, h, w).permute(0, 2, 3, 1)
        taps = sample(x.reshape(parts, -1, height, width), grid.reshape(parts, h, w * self.points, 2))
        taps = taps * torch.sigmoid(mask.reshape(parts, 1, h, w * self.points))
        taps = taps.reshape(samples, channels, h, w * self.points)
        return functional.conv2d(taps, self.weight, self.bias, (1, self.points))


def sampled_form(network: nn.Module, example: Tensor) -> None:
    """Replace every DCNv2 of a network by the form for the maps that inputs of one size give.

    Args:
        network: Network in evaluation mode; it is changed in place, so give a copy.
        example: An input of that size; its values do not matter.
    """
    sizes: dict[nn.Module, tuple[int, int]] = {}

    def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        sizes[module] = (arguments[0].shape[-2], arguments[0].shape[-1])

    hooks = [part.register_forward_pre_hook(note) for part in network.modules() if isinstance(part, DCNv2)]
    with torch.inference_mode():
        network(example)
    for hook in hooks:
        hook.remove()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DCNv2):
                setattr(parent, name, SampledDCNv2(child, *sizes[child]))
