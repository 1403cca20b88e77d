"""Export of the reference networks: one file a dialect."""

from harness.export.load import load_onnx_checked
from harness.export.standard import export_standard

__all__ = ["export_standard", "load_onnx_checked"]
