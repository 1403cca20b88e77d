"""The formats that are mutated: their real files, the damage that is done to them, and the verbs that read them."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.meta.fuzz import arrays, checkpoints, graphs, options, values
from conformance.meta.fuzz.damage import Damage, change_bytes, change_numbers, replace_file
from harness.cards import load_device_card
from harness.cards.expectations import read_expectations, require_soon
from harness.convert.ascend.chip import AscendChip
from harness.report.baseline import Gated, check_matches, read_document, regressions, uncompared
from harness.report.part import parse_part
from harness.run.merging import MergeOptions, merge

MODEL = "--model card.toml --coco coco"
ONE = f"{MODEL} --limit 1"
WEIGHTS = "--weights weights.pth"


def read_chip() -> None:
    """Read a device card with its expectations, as a vendor's device does."""
    load_device_card(Path("chip.toml")).vendor_table(AscendChip)


def read_expected() -> None:
    """Read a file of expectations, as ``--expectations`` does."""
    require_soon(read_expectations(Path("chip.expectations.toml")), datetime.date.today())


def read_baseline() -> None:
    """Hold the runs of one document to others, as the gate does."""
    now = read_document(Path("now.json"))
    assert now.data is not None
    runs = tuple((run.device, run.precision) for run in now.runs)
    gated = Gated(now.model, now.data.sha256, runs, (1, 4), now.weights_sha256, now.onnx_sha256)
    for file in (Path("results.json"), Path("results_1.json")):
        earlier = read_document(file)
        check_matches(earlier, file, gated)
        regressions(earlier, list(now.runs))
        uncompared(earlier, list(now.runs))


def merge_parts() -> None:
    """Merge the parts of a run, whatever their documents say of them."""
    merge([parse_part(Path(f"shard-{index}.part.npz")) for index in (1, 2)], MergeOptions(), print)


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file.

    Attributes:
        sources: Real files, below the corpus.
        damages: Those of which a mutant has one, the frequent ones several times.
        uses: Command lines of verbs, in the folder of a mutant, or functions; a mutant gets one of them.
        count: Mutants of the whole run.
        few: Mutants of the default run.
    """

    sources: tuple[str, ...]
    damages: tuple[Damage, ...]
    uses: tuple[str | Callable[[], None], ...]
    count: int
    few: int


BYTES = (change_bytes,)
JSON = (values.change_json,) * 5 + (change_bytes,) * 2 + (replace_file,)
TOML = (values.change_toml,) * 5 + (change_bytes,) * 2 + (replace_file,)
TEXT = (change_numbers,) * 3 + (change_bytes,) * 2 + (replace_file,)
CHECKPOINT = (
    checkpoints.change_member, checkpoints.change_tensor, checkpoints.change_names, checkpoints.run_something,
    checkpoints.change_old_format, change_bytes, replace_file,
)  # fmt: skip
IMAGES = ("coco/val2017/000000000139.jpg", "coco/val2017/000000000176.png")
TOOLS = tuple(
    f"outputs_bin/{name}"
    for name in ("perf_vision_batchsize_1_device_0.txt", "PureInfer_perf_of_m_bs1_in_device_0.txt", "run.log")
)

FORMATS: dict[str, Format] = {
    "model card": Format(
        ("card.toml",),
        TOML,
        (
            f"preprocess {ONE} --output made",
            f"decode --heads heads {ONE} --output made.json",
            f"infer --device torch {WEIGHTS} {ONE} --output made",
            f"score --outputs outputs_bin {MODEL}",
        ),
        280,
        10,
    ),
    "device card": Format(("chip.toml",), TOML, (read_chip,), 160, 14),
    "expectations": Format(("chip.expectations.toml",), TOML, (read_chip, read_expected), 120, 12),
    "COCO annotations": Format(
        ("coco/annotations/instances_val2017.json",),
        JSON,
        (f"score --detections rows.json {MODEL}", f"preprocess {MODEL} --output made"),
        240,
        8,
    ),
    "COCO results": Format(
        ("rows.json",),
        JSON,
        (f"score --detections rows.json {MODEL}", f"compare --detections rows.json {WEIGHTS} {MODEL}"),
        160,
        2,
    ),
    "weights .pth": Format(
        ("weights.pth",), CHECKPOINT, (f"infer --device torch {WEIGHTS} {ONE} --output made",), 240, 4
    ),
    "checkpoint .pth": Format(
        ("training/last.pth",),
        (change_bytes, checkpoints.change_member, checkpoints.change_tensor, checkpoints.run_something, replace_file),
        (f"train --iterations 1 --batch-size 1 --crop 128 --split val2017 --output training {MODEL}",),
        60,
        0,
    ),
    "ONNX": Format(
        ("model.onnx",),
        (graphs.change_graph,) * 5 + (change_bytes, change_bytes, replace_file),
        (f"infer --device onnxruntime --onnx model.onnx {ONE} --output made",) * 3
        + (
            "convert --device ascend310p --onnx model.onnx --model card.toml --output made",
            "card --onnx model.onnx --coco coco --limit 1 --output made.toml",
        ),
        400,
        2,
    ),
    "heads .npz": Format(
        ("heads/000000000139.npz",),
        (arrays.change_npz, arrays.change_npz, arrays.change_npz, change_bytes, replace_file),
        (f"decode --heads heads {MODEL} --output made.json",),
        160,
        6,
    ),
    "outputs .npy": Format(
        ("outputs_npy/000000000139_0.npy",),
        (arrays.change_npy, arrays.change_npy, arrays.change_npy, change_bytes, replace_file),
        (f"score --outputs outputs_npy {MODEL}",),
        120,
        4,
    ),
    "outputs .bin": Format(
        ("outputs_bin/000000000139_1.bin",),
        (change_bytes, change_bytes, change_bytes, replace_file),
        (f"score --outputs outputs_bin {MODEL}",),
        80,
        4,
    ),
    "outputs .txt": Format(("outputs_txt/000000000139_2.txt",), TEXT, (f"score --outputs outputs_txt {MODEL}",), 80, 4),
    "inputs .bin": Format(
        ("inputs/000000000139.bin",),
        (change_bytes, change_bytes, replace_file),
        (f"compare --inputs inputs {WEIGHTS} {MODEL}",),
        60,
        2,
    ),
    "tool summary": Format(("outputs_bin/summary.json",), JSON, (f"score --outputs outputs_bin {MODEL}",), 160, 6),
    "tool logs": Format(TOOLS, TEXT, (f"score --outputs outputs_bin {MODEL}",), 120, 4),
    "speed log": Format(("speed.json",), JSON, (f"compare --speed speed.json {WEIGHTS} {MODEL}",), 120, 2),
    "recipe card": Format(("recipe.toml",), TOML, ("score-log training.log --recipe recipe.toml",), 80, 4),
    **{
        kind: Format((file,), TEXT, (f"score-log {file}",), 60, 4)
        for kind, file in (
            ("training log", "training.log"),
            ("metrics.json", "metrics.json"),
            ("summary of a training", "CenterNet2_bs64_8p_acc.log"),
        )
    },
    "claim": Format(
        ("claim.json",), JSON, (f"compare --detections rows.json --claim claim.json {WEIGHTS} {MODEL}",), 80, 0
    ),
    "results, baseline": Format(("results.json", "results_1.json"), JSON, (read_baseline,), 200, 16),
    "shards": Format(("shard-1.json", "shard-2.json"), JSON, ("merge shard-1.json shard-2.json",), 120, 4),
    "parts of shards": Format(
        ("shard-1.part.npz", "shard-2.part.npz"),
        (arrays.change_npz, arrays.change_npz, values.change_part, values.change_part, change_bytes, replace_file),
        (merge_parts,),
        240,
        6,
    ),
    "images": Format(
        IMAGES,
        (change_bytes, change_bytes, replace_file, arrays.change_png),
        (f"preprocess {MODEL} --output made",),
        100,
        6,
    ),
    "command line": Format(("",), (), tuple(options.VERBS), 200, 0),
}
"""By the name in the report."""
