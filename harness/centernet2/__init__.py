"""The two-stage family: CenterNet2."""

from harness.centernet2.inference import create_model
from harness.centernet2.model import CenterNet2, create_centernet2, training_step

__all__ = ["CenterNet2", "create_centernet2", "create_model", "training_step"]
