"""Known mistakes in what is made of detections: results, evaluation, speed."""

from __future__ import annotations

from harness.faults.base import Fault

RESULTS = (
    Fault(
        "boxes-not-taken-back", "results", "boxes are in pixels of the network input, not of the image",
        "demonstrations that draw on the resized image", lambda p: {"inverse": "none"},
    ),
    Fault(
        "offset-not-undone", "results", "boxes are scaled back, and the offset of the image in the input is not undone",
        "letterbox helpers (mb3_centernet reads AP 0.0127 so)", lambda p: {"inverse": "scale"},
        lambda s: s.card.input.geometry != "stretch",
    ),
    Fault(
        "boxes-by-axes", "results", "boxes are scaled by each side's own ratio, as if the image had been stretched",
        "shared host code for stretched inputs", lambda p: {"inverse": "axes"},
        lambda s: s.card.input.geometry != "stretch",
    ),
    Fault(
        "boxes-in-cells", "results", "boxes are not multiplied by the stride of the grid",
        "wh in cells and centres in pixels mixed up in rewritten post-processing", lambda p: {"strided": False},
    ),
    Fault(
        "boxes-truncated", "results", "coordinates are cut to integers",
        "sophon-demo CenterNet: int() of the corners", lambda p: {"truncated": True},
    ),
    Fault(
        "boxes-corners", "results", "boxes are x1, y1, x2, y2 where x, y, width, height is wanted",
        "COCO's format taken for Pascal VOC's", lambda p: {"box": "xyxy"},
    ),
    Fault(
        "boxes-centres", "results", "boxes are centre and size where corner and size is wanted",
        "YOLO's format written as COCO's", lambda p: {"box": "centre"},
    ),
    Fault(
        "boxes-edited-twice", "results", "corners are turned into sizes twice",
        "CenterNet's convert_eval_format edits its argument: calling it twice spoils the boxes",
        lambda p: {"edited": 2},
    ),
    Fault(
        "boxes-clipped", "results", "boxes are clipped to the image, which the official code does not do",
        "post-processing of other detectors", lambda p: {"clipped": "image"},
    ),
    Fault(
        "boxes-clipped-to-input", "results", "boxes in image pixels are clipped to the size of the network input",
        "clipping before boxes are taken back, moved behind it", lambda p: {"clipped": "input"},
    ),
    Fault(
        "boxes-shifted", "results", "boxes are shifted",
        "the + 1 of Pascal VOC's pixel boxes; margins counted once too often", lambda p: {"shift": (p[0], p[1])},
        lambda s: True, lambda r: tuple(float(v) for v in r.choice([-3.0, -2.0, 2.0, 4.0], 2)),
        ((1.0, 1.0), (2.0, 2.0)), estimate="shift",
    ),
    Fault(
        "results-rounded", "results", "coordinates and scores are rounded to two decimals",
        "CenterNet's convert_eval_format", lambda p: {"rounded": True},
    ),
    Fault(
        "categories-contiguous", "results", "categories are counted without COCO's gaps: 80 ids for 91",
        "class + 1 written as category_id", lambda p: {"contiguous": True},
        lambda s: s.card.category_ids != tuple(range(1, s.card.classes + 1)),
    ),
    Fault(
        "images-dropped", "results", "images are silently left out",
        "batch loops that forget the last batch; runners that skip what they cannot read",
        lambda p: {"dropped": int(p[0])}, lambda s: True,
        lambda r: (float(r.choice([2, 3, 4])),), ((2.0,), (3.0,), (4.0,)),
    ),
    Fault(
        "padding-counted", "results", "the results of padded slots are written as those of the last image",
        "ais_bench pads the last batch with the first file of that batch", lambda p: {"padding": True},
    ),
)  # fmt: skip

EVALUATE = (
    Fault(
        "crowd-ignored", "evaluate", "crowds count as ordinary objects", "rewritten AP code", lambda p: {"crowd": True}
    ),
    Fault(
        "area-of-the-box", "evaluate", "small, medium and large go by the box instead of the outline's area",
        "evaluators that know boxes only", lambda p: {"box_area": True},
    ),
    Fault(
        "images-without-results-left-out", "evaluate", "images in which nothing was found are left out of the AP",
        "params.imgIds set to the ids of the results file", lambda p: {"found_only": True},
    ),
    Fault(
        "max-detections", "evaluate", "fewer detections of an image count than COCO's 100",
        "params.maxDets of another benchmark", lambda p: {"max_detections": int(p[0])}, lambda s: True,
        lambda r: (float(r.choice([1, 5, 10])),), ((10.0,), (1.0,), (5.0,), (20.0,), (50.0,)),
    ),
    Fault("ap50-for-ap", "evaluate", "AP at IoU 0.5 is given as AP", "Pascal VOC's mAP", lambda p: {"loose": True}),
    Fault(
        "absent-categories", "evaluate", "categories without objects count with AP 0",
        "means over all classes on a part of the images", lambda p: {"absent": True},
    ),
)  # fmt: skip

PERF = (
    Fault(
        "fps-padding", "perf", "padded slots count as images",
        "ais_bench: throughput is batch size over mean time, the last batch padded", lambda p: {"padding": True},
    ),
    Fault(
        "fps-without-synchronisation", "perf", "the clock stops when the work is handed over, not when it is done",
        "asynchronous execute of every runtime (aclmdlExecuteAsync, CUDA streams)", lambda p: {"enqueued": True},
    ),
    Fault(
        "fps-times-chips", "perf", "the speed is multiplied by the number of chips",
        "Ascend ModelZoo test/parse.py: times 4 on the Atlas 300I", lambda p: {"chips": True},
    ),
    Fault(
        "fps-mean-of-rates", "perf", "rates of the batches are averaged, not their times",
        "mean of per-sample throughputs in benchmark scripts", lambda p: {"mean_of_rates": True},
    ),
    Fault(
        "fps-warm-up", "perf", "the warm-up is inside the interval",
        "ais_bench's API: warm-up counts unless reset", lambda p: {"warm_up": True},
    ),
    Fault(
        "fps-latency-of-batch", "perf", "the latency of a batch is taken for that of an image",
        "per-batch and per-sample latency mixed up (Ascend 310's 17.25 fps)", lambda p: {"latency_of_batch": True},
    ),
    Fault(
        "fps-batch-size", "perf", "the formula has another batch size than the run",
        "ais_bench --batchsize enters the formula only", lambda p: {"batch_size": int(p[0])}, lambda s: True,
        lambda r: (float(r.choice([2, 16, 32])),), ((1.0,), (2.0,), (8.0,), (16.0,), (32.0,)),
    ),
)  # fmt: skip
