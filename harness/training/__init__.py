"""Training of CenterNet on COCO-style data, as the official code does it: how the embedded weights were made."""
