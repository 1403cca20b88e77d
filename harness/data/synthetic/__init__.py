"""The generated, COCO-style data set that ships with the suite, the same to the byte on every machine."""

from harness.data.synthetic.coco import SyntheticImage, annotations_of, draw_image
from harness.data.synthetic.materialise import embedded_dataset_root, materialise
from harness.data.synthetic.spec import Spec, load_spec

__all__ = [
    "Spec",
    "SyntheticImage",
    "annotations_of",
    "draw_image",
    "embedded_dataset_root",
    "load_spec",
    "materialise",
]
