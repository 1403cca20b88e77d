"""Batch norm folded into the deformable convolution in front of it, where exporters leave it standing."""

from __future__ import annotations

import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from harness.models.dla_dcn import DeformConv
from harness.ops import DCNv2


def fold_batch_norm(network: nn.Module) -> None:
    """Scale and shift the weights of every DCNv2 by the batch norm behind it, which becomes an identity.

    Exact up to rounding: DCNv2 is linear in its weights, and its offsets and mask do not depend on them.

    Args:
        network: In evaluation mode; changed in place, so give a copy.
    """
    for module in list(network.modules()):
        if isinstance(module, DeformConv):
            module.actf[0] = _folded(module.conv, module.actf[0])
        elif isinstance(module, nn.Sequential):
            for i, (first, second) in enumerate(itertools.pairwise(module)):
                if isinstance(first, DCNv2):
                    module[i + 1] = _folded(first, second)


def _folded(dcn: DCNv2, norm: nn.Module) -> nn.Module:
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return norm
    dcn.weight, dcn.bias = fuse_conv_bn_weights(
        dcn.weight, dcn.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return nn.Identity()
