"""Folding of batch norm into the convolution before it."""

from __future__ import annotations

import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from harness.centernet.networks.dla_dcn import DeformConv
from harness.centernet.ops import DCNv2


def fold_batch_norm(network: nn.Module) -> None:
    """Scale and shift the weights of every DCNv2 by the batch norm behind it, which becomes an identity.

    Exporters fold the batch norms of ordinary convolutions themselves, but not these. The folding is exact up to
    rounding: DCNv2 is linear in its weights, and its offsets and mask do not depend on them.

    Args:
        network: Network in evaluation mode; it is changed in place, so give a copy.
    """
    for module in list(network.modules()):
        if isinstance(module, DeformConv):
            module.actf[0] = _folded(module.conv, module.actf[0])
        elif isinstance(module, nn.Sequential):
            for i, (first, second) in enumerate(itertools.pairwise(module)):
                if isinstance(first, DCNv2):
                    module[i + 1] = _folded(first, second)


def fold_every_batch_norm(network: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, deformable or not, as compilers do.

    Args:
        network: Network in evaluation mode; it is changed in place, so give a copy.
    """
    fold_batch_norm(network)
    for module in list(network.modules()):
        children = dict(module.named_children())
        pairs = [(name, f"bn{name.removeprefix('conv')}") for name in children if name.startswith("conv")]
        if isinstance(module, nn.Sequential):
            pairs = list(itertools.pairwise(children))
        for first, second in pairs:
            conv, norm = children[first], children.get(second)
            if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d)))
                setattr(module, second, nn.Identity())


def _folded(dcn: DCNv2, norm: nn.Module) -> nn.Module:
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return norm
    dcn.weight, dcn.bias = fuse_conv_bn_weights(
        dcn.weight, dcn.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return nn.Identity()
