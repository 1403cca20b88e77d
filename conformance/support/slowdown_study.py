"""Study of the speed gate on real times: how often it is wrong, and how many pairs it needs.

python -m conformance.support.slowdown_study --runs 400 --trials 10000 --busy

A small network of equal layers runs in ONNX Runtime on one thread; the slower one has a layer more in ten. `--busy`
adds a process a core that only computes. Prints one line of JSON for each case.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from harness.checks.slowdown import Slowdown
from harness.run.alternate import Timed, time_alternately

LAYERS, CHANNELS, SIDE = 10, 16, 40
ALLOWED = 0.05
SLOWER = 1.1


def network(layers: int) -> bytes:
    """Write an ONNX of equal 3x3 convolutions with ReLU, (1, C, h, w) to the same."""
    random, shape = np.random.default_rng(0), (1, CHANNELS, SIDE, SIDE)
    nodes, weights = [], []
    for i in range(layers):
        kernel = random.normal(0, 0.08, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"x{i + 1}"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x0", f"x{layers}")]
    graph = helper.make_graph(nodes, "equal_layers", ends[:1], ends[1:], weights)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def timed_session(layers: int) -> Timed:
    """Open a session of one thread; the call runs it once and returns the seconds."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(network(layers), options, ["CPUExecutionProvider"])
    images = np.random.default_rng(1).normal(size=(1, CHANNELS, SIDE, SIDE)).astype(np.float32)

    def run() -> float:
        start = time.perf_counter()
        session.run(None, {"x0": images})
        return time.perf_counter() - start

    return run


def _compute_for_ever() -> None:
    values = np.random.default_rng(0).normal(size=(200, 200))
    while True:
        values = values @ values
        values /= np.abs(values).max()


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep the machine busy beside."""
    hogs = [multiprocessing.Process(target=_compute_for_ever, daemon=True) for _ in range(processes)]
    for hog in hogs:
        hog.start()
    try:
        yield
    finally:
        for hog in hogs:
            hog.terminate()
            hog.join()


def summed_up(found: Sequence[Slowdown]) -> dict[str, object]:
    """Counts of the answers, quantiles of the pairs, and the ratio."""
    pairs = [one.pairs for one in found]
    return {
        "runs": len(found),
        **Counter(one.answer(ALLOWED) for one in found),
        "pairs p50, p90, p99, most": [*map(int, np.percentile(pairs, (50, 90, 99))), max(pairs)],
        "ratio p1, p50, p99": [round(float(one), 4) for one in np.percentile([f.ratio for f in found], (1, 50, 99))],
    }


def recorded(run: Timed, calls: int) -> NDArray[np.float64]:
    """Times of one model, call after call, for trials by the thousand."""
    return np.array([run() for _ in range(calls)])


def trial(times: NDArray[np.float64], factor: float, random: np.random.Generator) -> Slowdown:
    """One run on times recorded in a row, from a random place on; calls of the new model take longer by a factor.

    The calls take the times in the order in which the lot makes them, so what disturbed the recording meets both.
    """
    places = itertools.count(int(random.integers(len(times))))

    def taker(longer: float) -> Timed:
        return lambda: longer * float(times[next(places) % len(times)])

    return time_alternately(taker(factor), taker(1.0), ALLOWED, int(random.integers(2**31)))


def main() -> None:
    """Run the cases that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--busy", action="store_true")
    asked = parser.parse_args()
    old, same, slower = timed_session(LAYERS), timed_session(LAYERS), timed_session(round(LAYERS * SLOWER))
    with load(os.cpu_count() or 1 if asked.busy else 0):
        for name, new in (("old against itself", same), ("+10 %", slower)) if asked.runs else ():
            start = time.perf_counter()
            found = [time_alternately(new, old, ALLOWED, run) for run in range(asked.runs)]
            seconds = round(time.perf_counter() - start, 1)
            case = {"case": name, "busy": asked.busy, "load": round(os.getloadavg()[0], 1), "seconds": seconds}
            print(json.dumps(case | summed_up(found)), flush=True)
        times = recorded(old, 40_000)
    random = np.random.default_rng(0)
    for factor in (1.0, 1 + ALLOWED, SLOWER):
        few = 10 if factor == 1 + ALLOWED else 1  # these go on to the limit
        found = [trial(times, factor, random) for _ in range(asked.trials // few)]
        case = {"case": f"recorded times, new x {factor}", "busy": asked.busy}
        print(json.dumps(case | summed_up(found)), flush=True)


if __name__ == "__main__":
    main()
