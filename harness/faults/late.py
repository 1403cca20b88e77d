"""Known mistakes behind the network: heads, numbers, batches, decoding."""

from __future__ import annotations

from harness.faults.base import Fault, Setting


def _reg(setting: Setting) -> bool:
    return "reg" in setting.card.output.heads


def _single(setting: Setting) -> bool:
    return setting.precision == "fp32"


def _batched(setting: Setting) -> bool:
    return setting.batch_size > 1


HEADS = (
    Fault(
        "hm-sigmoid-missing", "heads", "hm comes without the sigmoid that the card promises",
        "Ascend ModelZoo's export ends in logits, and its post-processing applies the sigmoid",
        lambda p: {"sigmoid": -1}, lambda s: s.card.output.hm == "probability",
    ),
    Fault(
        "hm-sigmoid-twice", "heads", "hm goes through one sigmoid too many",
        "a sigmoid in the graph and one on the host: the ranking stays, scores lie in 0.5..0.73",
        lambda p: {"sigmoid": 1},
    ),
    Fault(
        "wh-reg-swapped", "heads", "wh and reg are exchanged",
        "Ascend ModelZoo built-in CenterNet: forward gives hm, reg, wh and output_names say hm, wh, reg",
        lambda p: {"swapped": True}, lambda s: _reg(s) and s.card.output.box == "wh+reg",
    ),
    Fault(
        "wh-axes-swapped", "heads", "width and height are exchanged",
        "ports that give boxes as (y, x), as TensorFlow does",
        lambda p: {"wh_xy": True},
    ),
    Fault(
        "reg-axes-swapped", "heads", "the x and y of reg are exchanged",
        "ports that give points as (y, x), as TensorFlow does",
        lambda p: {"reg_xy": True}, _reg,
    ),
    Fault(
        "wh-unit", "heads", "wh is in another unit, pixels of the input for cells of the grid or the other way round",
        "mb3_centernet has pixels where the official models have cells",
        lambda p: {"wh_factor": p[0]}, lambda s: True,
        lambda r: (float(r.choice([0.25, 4.0])),), ((4.0,), (0.25,)), estimate="wh_factor",
    ),
    Fault(
        "outputs-reversed", "heads", "the outputs are taken in the reverse order",
        "Ascend ModelZoo built-in CenterNet: without --out_nodes the om has its outputs the other way round",
        lambda p: {"reversed": True},
    ),
    Fault(
        "heads-layout", "heads", "NHWC outputs are read as NCHW",
        "runtimes that keep their own layout at the outputs",
        lambda p: {"interleaved": True},
    ),
    Fault(
        "heads-transposed", "heads", "rows and columns of the heads are exchanged",
        "column-major readers of raw dumps",
        lambda p: {"transposed": True},
    ),
)  # fmt: skip

NUMERIC = (
    Fault(
        "half-for-single", "numeric", "what is claimed to be float32 holds only numbers that float16 has",
        "ATC computes in fp16 by default and gives fp32 files; its float32 DCN convolves in fp16",
        lambda p: {"half": True}, _single,
    ),
    Fault(
        "nan", "numeric", "heads hold NaN",
        "tpu_mlir npz_tool compare takes NaN for 0 on both sides, and passes",
        lambda p: {"nan": True},
    ),
    Fault(
        "overflow", "numeric", "values beyond a limit are infinite",
        "float16 overflow beyond 65504; npz_tool takes infinity for 10000 on both sides",
        lambda p: {"overflow": p[0]}, lambda s: True,
        lambda r: (float(r.uniform(0.6, 0.95)),), ((0.8,),), estimate="overflow",
    ),
    Fault(
        "denormals", "numeric", "integers are read as the bits of floats: denormal numbers",
        "quantised outputs copied into a float buffer without their scale",
        lambda p: {"as_integers": True},
    ),
    Fault(
        "int8-shared-scale", "numeric", "the heads share one int8 scale",
        "tpu_mlir: hm, wh and reg concatenated into one tensor; Sophon keeps its heads in float for that",
        lambda p: {"shared_scale": True},
    ),
    Fault(
        "wh-saturated", "numeric", "wh saturates",
        "int8 ranges from a calibration without large objects",
        lambda p: {"saturated": p[0]}, lambda s: True,
        lambda r: (float(r.uniform(0.4, 0.8)),), ((0.5,),), estimate="saturated",
    ),
    Fault(
        "int8-outlier", "numeric", "int8 ranges are many times too wide, as MinMax makes them of one outlier",
        "MinMax calibration (ONNX Runtime's default) on activations with outliers",
        lambda p: {"outlier": p[0]}, lambda s: True,
        lambda r: (float(r.uniform(4, 20)),), ((8.0,),), estimate="outlier",
    ),
    Fault(
        "hard-sigmoid", "numeric", "the sigmoid of hm is a piecewise linear one",
        "fast sigmoids (Ascend MindX CenterNet post-processing; HardSigmoid of int8 runtimes)",
        lambda p: {"hard_sigmoid": True}, lambda s: s.card.output.hm == "probability",
    ),
)  # fmt: skip

BATCH = (
    Fault(
        "batch-permuted", "batch", "the samples of a batch come back in the reverse order",
        "results sorted by file name where names do not sort as they were run (ais_bench, benchmark.x86_64)",
        lambda p: {"order": "reversed"}, _batched,
    ),
    Fault(
        "batch-last-stale", "batch", "the last sample of a batch is that of the batch before",
        "a ring of output buffers one slot too short",
        lambda p: {"order": "last stale"}, _batched,
    ),
    Fault(
        "batch-first-repeated", "batch", "every slot of a batch holds the first sample",
        "Ascend ModelZoo built-in CenterNet: batch 1 written into every reshape of the offsets",
        lambda p: {"order": "first"}, _batched,
    ),
    Fault(
        "run-stale", "batch", "the outputs are those of the run before",
        "files of an earlier run left in the result folder (ais_bench); a copy that does not wait for the chip",
        lambda p: {"order": "run before"},
    ),
)  # fmt: skip

DECODE = (
    Fault(
        "peaks-5x5", "decode", "the peak test looks at 5x5 cells",
        "pooling size of CornerNet's variants", lambda p: {"window": 5},
    ),
    Fault(
        "peaks-missing", "decode", "there is no peak test",
        "graphs whose max pooling was dropped as unsupported", lambda p: {"window": 1},
    ),
    Fault(
        "peaks-strict", "decode", "a peak must top its neighbours, so that equal ones are none",
        "comparison by > in C++ post-processing", lambda p: {"strict": True},
    ),
    Fault(
        "peaks-half", "decode", "peaks are found on float16 scores, where neighbours become equal",
        "fp16 post-processing on the chip (Ascend om with output_type FP16)",
        lambda p: {"half": True}, _single,
    ),
    Fault(
        "one-class-a-place", "decode", "only the best class of a place counts",
        "sophon-demo CenterNet: the maximum over the classes comes before the top K",
        lambda p: {"one_class": True},
    ),
    Fault(
        "top-k", "decode", "another number of detections is kept",
        "sophon-demo CenterNet: K = 75", lambda p: {"top_k": int(p[0])}, lambda s: True,
        lambda r: (float(r.choice([20, 50, 75])),), ((75.0,), (50.0,), (20.0,)), estimate="top_k",
    ),
    Fault(
        "score-threshold", "decode", "detections below a score are dropped",
        "a demonstration's threshold left in the evaluation", lambda p: {"threshold": p[0]}, lambda s: True,
        lambda r: (float(r.uniform(0.25, 0.5)),), ((0.3,), (0.25,), (0.5,)), estimate="threshold",
    ),
    Fault(
        "class-off-by-one", "decode", "classes are off by one, as if the first were background",
        "SSD's and Faster R-CNN's class 0", lambda p: {"class_shift": int(p[0])}, lambda s: True,
        lambda r: (float(r.choice([-1, 1])),), ((1.0,), (-1.0,)),
    ),
    Fault(
        "reg-ignored", "decode", "reg is not added to the centre",
        "post-processing that reads two outputs of three", lambda p: {"reg": "none"}, _reg,
    ),
    Fault(
        "reg-half", "decode", "one half is added to the centre instead of reg",
        "CenterNet's own branch for models without reg", lambda p: {"reg": "half"},
        lambda s: s.card.output.box == "wh+reg" or not _reg(s),
    ),
    Fault(
        "scores-logits", "decode", "scores are logits",
        "post-processing that takes the graph's hm for probabilities", lambda p: {"logits": True},
        lambda s: s.card.output.hm == "logits",
    ),
    Fault(
        "iou-nms", "decode", "overlapping boxes are suppressed by their IoU",
        "YOLO's post-processing around another network", lambda p: {"iou_nms": p[0]}, lambda s: True,
        lambda r: (float(r.choice([0.45, 0.5, 0.6])),), ((0.45,), (0.5,), (0.6,)),
    ),
)  # fmt: skip
