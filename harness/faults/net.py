"""The network as a port may compute it: DCNv2 and batch norm, right or with one of the known mistakes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from harness.centernet.networks import HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.faults.forms import NetForm

RIGHT = NetForm()


def faulty_network(network: HeadedNetwork, form: NetForm) -> HeadedNetwork:
    """A copy of a network that computes in this form; the original is not changed."""
    changed = copy.deepcopy(network)
    if form == RIGHT:
        return changed
    for module in changed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = not form.batch_statistics
            if form.batch_statistics:
                module.running_mean = module.running_var = None
            module.eps = module.eps if form.epsilon is None else form.epsilon
    if any(isinstance(module, DCNv2) for module in changed.modules()):
        _replace(changed, form)
    return changed


def _replace(module: nn.Module, form: NetForm) -> None:
    for name, child in module.named_children():
        if isinstance(child, DCNv2):
            setattr(module, name, FaultyDCNv2(child, form))
        else:
            _replace(child, form)


class FaultyDCNv2(nn.Module):
    """A DCNv2 in another form, with the parameters of a right one.

    (N, in_channels, H, W) -> (N, out_channels, H', W').
    """

    def __init__(self, right: DCNv2, form: NetForm) -> None:
        super().__init__()
        self.right, self.form = right, form

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` at the offsets that this form reads."""
        dcn, form = self.right, self.form
        offsets, mask = self._read(dcn.conv_offset_mask(x))
        if form.truncated or form.border != "zero" or form.nearest or form.columns_first or form.dilation_dropped:
            return self._sampled(x, offsets, mask)
        if form.half_coordinates or form.half_pixel:
            return self._sampled(x, offsets, mask)
        offset = offsets.flatten(1, 3)
        mask = mask.flatten(1, 2)
        result: Tensor = deform_conv2d(
            x, offset, dcn.weight, dcn.bias, dcn.stride, dcn.padding, dcn.dilation, mask.to(x.dtype)
        )
        return result

    def _read(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (N, groups, points, (dy, dx), h, w) and mask (N, groups, points, h, w)."""
        form = self.form
        points = self.right.weight.shape[2] * self.right.weight.shape[3]
        samples, channels, h, w = raw.shape
        groups = channels // (3 * points)
        offsets, mask = raw[:, : 2 * groups * points], raw[:, 2 * groups * points :]
        if form.offsets.startswith("blocks"):
            offsets = offsets.reshape(samples, 2, groups, points, h, w).permute(0, 2, 3, 1, 4, 5)
        else:
            offsets = offsets.reshape(samples, groups, points, 2, h, w)
        if form.offsets in ("xy", "blocks xy"):
            offsets = offsets.flip(3)
        if form.offsets == "none":
            offsets = torch.zeros_like(offsets)
        mask = mask.reshape(samples, groups, points, h, w)
        if form.mask == "ones":
            mask = torch.ones_like(mask)
        elif form.mask != "raw":
            mask = torch.sigmoid(torch.sigmoid(mask)) if form.mask == "twice" else torch.sigmoid(mask)
        if form.first_group:
            offsets, mask = offsets[:, :1].expand_as(offsets), mask[:, :1].expand_as(mask)
        return offsets.contiguous(), mask.contiguous()

    def _sampled(self, x: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        """As the definition says, sample by sample, with the mistakes of the form."""
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
        """Rows and columns of the samples, each (N, groups, points, h, w), in pixels."""
        dcn, form = self.right, self.form
        kh, kw = dcn.weight.shape[2:]
        h, w = offsets.shape[-2:]
        dilation = 1 if form.dilation_dropped else dcn.dilation
        ky, kx = torch.meshgrid(torch.arange(kh), torch.arange(kw), indexing="ij")
        if form.columns_first:
            ky, kx = ky.T, kx.T
        rows = torch.arange(h).reshape(1, h, 1) * dcn.stride - dcn.padding + ky.reshape(-1, 1, 1) * dilation
        columns = torch.arange(w).reshape(1, 1, w) * dcn.stride - dcn.padding + kx.reshape(-1, 1, 1) * dilation
        found = []
        for axis, places in enumerate((rows, columns)):
            values = offsets[:, :, :, axis] + places.to(offsets.dtype)
            if form.half_coordinates:
                values = values.half().to(offsets.dtype)
            if form.half_pixel:
                values = values * (sides[axis] / (sides[axis] - 1)) - 0.5
            if form.border == "clamped":
                values = values.clamp(0, sides[axis] - 1)
            found.append(torch.round(values) if form.nearest else values)
        return found[0], found[1]

    def _sample(self, parts: Tensor, y: Tensor, x: Tensor, sides: tuple[int, int]) -> Tensor:
        """Bilinear samples (N, groups, channels, points * h * w) of parts (N, groups, channels, H * W)."""
        height, width = sides
        corner = torch.trunc if self.form.truncated else torch.floor
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
        if self.form.border == "dropped":
            total = total * (~dropped).flatten(2).unsqueeze(2)
        return total
