"""The two-stage family: CenterNet2."""

from harness.centernet2.model import CenterNet2, create_centernet2, training_step

__all__ = ["CenterNet2", "create_centernet2", "training_step"]
