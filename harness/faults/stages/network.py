"""Network of a port: its specification and its computation; `network_faults` holds the known mistakes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from harness.centernet.networks import HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.faults.fault import FaultStage


@dataclass(frozen=True, slots=True)
class Offsets:
    """Order of the channels of the DCN offsets; right: (dy, dx) of each point in turn.

    Attributes:
        blocks: All of one axis come before all of the other.
        x_first: dx comes before dy.
        ignored: They are taken for 0.
    """

    blocks: bool = False
    x_first: bool = False
    ignored: bool = False


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Specification of the network that a port computes.

    Attributes:
        offsets: How the DCN offsets are read.
        mask: The DCN mask's activation: sigmoid, none, sigmoid of the sigmoid, or 1 everywhere.
        truncated: The corner of a sample is ``int(x)`` instead of ``floor(x)``.
        border: Values outside the map: zero, the nearest pixel, or no sample that is partly outside.
        dilation_dropped: Dilation is taken for 1.
        first_group: The offsets of the first group serve for all.
        half_coordinates: Coordinates are float16.
        nearest: Samples are picked, not interpolated.
        half_pixel: Coordinates are normalised with align_corners and sampled without.
        columns_first: The kernel's points are counted down the columns.
        batch_statistics: Batch norm takes the statistics of the batch.
        epsilon: Of batch norm, instead of 1e-5.
    """

    stage: ClassVar[FaultStage] = "network"

    offsets: Offsets = Offsets()
    mask: Literal["sigmoid", "raw", "twice", "ones"] = "sigmoid"
    truncated: bool = False
    border: Literal["zero", "clamped", "dropped"] = "zero"
    dilation_dropped: bool = False
    first_group: bool = False
    half_coordinates: bool = False
    nearest: bool = False
    half_pixel: bool = False
    columns_first: bool = False
    batch_statistics: bool = False
    epsilon: float | None = None


RIGHT = NetworkSpec()


def faulty_network(network: HeadedNetwork, spec: NetworkSpec) -> HeadedNetwork:
    """Copy a network and make the copy compute by this specification."""
    changed = copy.deepcopy(network)
    if spec == RIGHT:
        return changed
    for module in changed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = not spec.batch_statistics
            if spec.batch_statistics:
                module.running_mean = module.running_var = None
            module.eps = module.eps if spec.epsilon is None else spec.epsilon
    if any(isinstance(module, DCNv2) for module in changed.modules()):
        _replace(changed, spec)
    return changed


def _replace(module: nn.Module, spec: NetworkSpec) -> None:
    for name, child in module.named_children():
        if isinstance(child, DCNv2):
            setattr(module, name, FaultyDCNv2(child, spec))
        else:
            _replace(child, spec)


class FaultyDCNv2(nn.Module):
    """DCNv2 that computes by a specification, with the parameters of a right one.

    (N, in_channels, H, W) -> (N, out_channels, H', W').
    """

    def __init__(self, right: DCNv2, spec: NetworkSpec) -> None:
        super().__init__()
        self.right, self.spec = right, spec

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` at the offsets as the specification reads them."""
        dcn, spec = self.right, self.spec
        offsets, mask = self._read(dcn.conv_offset_mask(x))
        if spec.truncated or spec.border != "zero" or spec.nearest or spec.columns_first or spec.dilation_dropped:
            return self._sampled(x, offsets, mask)
        if spec.half_coordinates or spec.half_pixel:
            return self._sampled(x, offsets, mask)
        offset = offsets.flatten(1, 3)
        mask = mask.flatten(1, 2)
        result: Tensor = deform_conv2d(
            x, offset, dcn.weight, dcn.bias, dcn.stride, dcn.padding, dcn.dilation, mask.to(x.dtype)
        )
        return result

    def _read(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Split the offsets (N, groups, points, (dy, dx), h, w) from the mask (N, groups, points, h, w)."""
        spec = self.spec
        points = self.right.weight.shape[2] * self.right.weight.shape[3]
        samples, channels, h, w = raw.shape
        groups = channels // (3 * points)
        offsets, mask = raw[:, : 2 * groups * points], raw[:, 2 * groups * points :]
        if spec.offsets.blocks:
            offsets = offsets.reshape(samples, 2, groups, points, h, w).permute(0, 2, 3, 1, 4, 5)
        else:
            offsets = offsets.reshape(samples, groups, points, 2, h, w)
        if spec.offsets.x_first:
            offsets = offsets.flip(3)
        if spec.offsets.ignored:
            offsets = torch.zeros_like(offsets)
        mask = mask.reshape(samples, groups, points, h, w)
        if spec.mask == "ones":
            mask = torch.ones_like(mask)
        elif spec.mask != "raw":
            mask = torch.sigmoid(torch.sigmoid(mask)) if spec.mask == "twice" else torch.sigmoid(mask)
        if spec.first_group:
            offsets, mask = offsets[:, :1].expand_as(offsets), mask[:, :1].expand_as(mask)
        return offsets.contiguous(), mask.contiguous()

    def _sampled(self, x: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        """Convolve by the definition of DCNv2, tap by tap, with the mistakes of the specification."""
        dcn = self.right
        samples, groups, points = mask.shape[:3]
        h, w = mask.shape[3:]
        y, x_ = self._coordinates(offsets, x.shape[2:])
        parts = x.reshape(samples, groups, -1, x.shape[2] * x.shape[3])
        taps = self._sample(parts, y, x_, (x.shape[2], x.shape[3])) * mask.reshape(samples, groups, 1, -1)
        columns = taps.reshape(samples, -1, points, h * w)
        kernel = dcn.weight.reshape(dcn.weight.shape[0], -1, points)
        result = torch.einsum("ock,nckp->nop", kernel, columns)
        return result.reshape(samples, -1, h, w) + dcn.bias.reshape(1, -1, 1, 1)

    def _coordinates(self, offsets: Tensor, sides: torch.Size) -> tuple[Tensor, Tensor]:
        """Compute rows and columns of the samples, each (N, groups, points, h, w), in pixels."""
        dcn, spec = self.right, self.spec
        kh, kw = dcn.weight.shape[2:]
        h, w = offsets.shape[-2:]
        dilation = 1 if spec.dilation_dropped else dcn.dilation
        ky, kx = torch.meshgrid(torch.arange(kh), torch.arange(kw), indexing="ij")
        if spec.columns_first:
            ky, kx = ky.T, kx.T
        rows = torch.arange(h).reshape(1, h, 1) * dcn.stride - dcn.padding + ky.reshape(-1, 1, 1) * dilation
        columns = torch.arange(w).reshape(1, 1, w) * dcn.stride - dcn.padding + kx.reshape(-1, 1, 1) * dilation
        found = []
        for axis, places in enumerate((rows, columns)):
            values = offsets[:, :, :, axis] + places.to(offsets.dtype)
            if spec.half_coordinates:
                values = values.half().to(offsets.dtype)
            if spec.half_pixel:
                values = values * (sides[axis] / (sides[axis] - 1)) - 0.5
            if spec.border == "clamped":
                values = values.clamp(0, sides[axis] - 1)
            found.append(torch.round(values) if spec.nearest else values)
        return found[0], found[1]

    def _sample(self, parts: Tensor, y: Tensor, x: Tensor, sides: tuple[int, int]) -> Tensor:
        """Interpolate (N, groups, channels, points * h * w) in parts (N, groups, channels, H * W)."""
        height, width = sides
        corner = torch.trunc if self.spec.truncated else torch.floor
        y0, x0 = corner(y), corner(x)
        fy, fx = y - y0, x - x0
        total = torch.zeros(())
        dropped = torch.zeros_like(y, dtype=torch.bool)
        for dy in (0, 1):
            for dx in (0, 1):
                rows, columns = y0 + dy, x0 + dx
                weight = (fy if dy else 1 - fy) * (fx if dx else 1 - fx)
                inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
                dropped |= ~inside & (weight != 0)
                index = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).long()
                index = index.flatten(2).unsqueeze(2).expand(-1, -1, parts.shape[2], -1)
                total = total + parts.gather(3, index) * (weight * inside).flatten(2).unsqueeze(2)
        if self.spec.border == "dropped":
            total = total * (~dropped).flatten(2).unsqueeze(2)
        return total
