"""Deformable convolution (DCNv2) and its forms."""

from harness.centernet.ops.dcn import DCNv2, split_offset_mask

__all__ = ["DCNv2", "split_offset_mask"]
