"""Training of CenterNet on COCO-style data by the official method; it made the embedded weights."""
