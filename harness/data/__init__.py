"""Data sets in COCO's layout, detections, calibration images, and the generated data set."""
