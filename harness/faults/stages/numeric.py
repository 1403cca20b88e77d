"""Numbers of a port's outputs: precision, range and activation, and the known mistakes in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.centernet.decode import sigmoid
from harness.faults.fault import Fault, FaultStage

Arrays = dict[str, NDArray[Any]]

INT8_LEVELS = 127
DENORMAL = 2.0**-149
"""Smallest positive float32: the bits of the integer 1 read as a float."""


@dataclass(frozen=True, slots=True)
class NumericSpec:
    """Specification of the precision and range of a port's outputs.

    Attributes:
        half: Values are float16.
        nan: One value is not a number.
        overflow: Values beyond this share of a head's largest are infinite.
        as_integers: Integers are read as the bits of floats: denormal numbers.
        shared_scale: All heads are int8 with one scale.
        saturated: wh saturates at this share of its largest.
        outlier: Every head is int8 with a range so many times too wide, as one outlier makes it.
        hard_sigmoid: The sigmoid of hm is a piecewise linear one.
    """

    stage: ClassVar[FaultStage] = "numeric"

    half: bool = False
    nan: bool = False
    overflow: float | None = None
    as_integers: bool = False
    shared_scale: bool = False
    saturated: float | None = None
    outlier: float | None = None
    hard_sigmoid: bool = False


def activate(spec: NumericSpec, hm: NDArray[Any], times: int) -> NDArray[Any]:
    """Apply the port's sigmoid to the logits `times` times."""
    if times > 0 and spec.hard_sigmoid:
        hm = np.clip(hm * np.asarray(0.2, hm.dtype) + np.asarray(0.5, hm.dtype), 0, 1)
        times -= 1
    for _ in range(times):
        hm = sigmoid(hm)
    return hm


def degrade(spec: NumericSpec, heads: Arrays) -> Arrays:
    """Give heads (N, channels, h, w) by name the port's precision and range."""
    found = heads
    if spec.saturated is not None:
        limit = (spec.saturated * _largest(found["wh"])).astype(found["wh"].dtype)
        found = {**found, "wh": np.clip(found["wh"], -limit, limit)}
    if spec.shared_scale:
        largest = np.max([_largest(values) for values in found.values()], axis=0)
        found = {name: _quantised(values, largest) for name, values in found.items()}
    if spec.outlier is not None:
        found = {name: _quantised(values, spec.outlier * _largest(values)) for name, values in found.items()}
    if spec.overflow is not None:
        found = {name: _overflowed(values, spec.overflow * _largest(values)) for name, values in found.items()}
    if spec.as_integers:
        found = {name: _as_integers(values) for name, values in found.items()}
    if spec.half:
        with np.errstate(over="ignore"):
            found = {name: values.astype(np.float16).astype(values.dtype) for name, values in found.items()}
    if spec.nan:
        found = {name: np.array(values) for name, values in found.items()}
        found["hm"][:, 0, 1, 2] = np.nan
    return found


def _largest(values: NDArray[Any]) -> NDArray[Any]:
    """Largest magnitude of each sample, (N, 1, 1, 1)."""
    result: NDArray[Any] = np.abs(values).max(axis=(1, 2, 3), keepdims=True).astype(np.float64)
    return result


def _quantised(values: NDArray[Any], largest: NDArray[Any]) -> NDArray[Any]:
    step = np.where(largest > 0, largest, 1.0) / INT8_LEVELS
    levels = np.clip(np.round(values / step), -INT8_LEVELS - 1, INT8_LEVELS)
    result: NDArray[Any] = (levels * step).astype(values.dtype)
    return result


def _overflowed(values: NDArray[Any], limit: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = np.where(np.abs(values) > limit, np.copysign(np.inf, values), values).astype(values.dtype)
    return result


def _as_integers(values: NDArray[Any]) -> NDArray[Any]:
    largest = _largest(values)
    levels = np.round(values / (np.where(largest > 0, largest, 1.0) / INT8_LEVELS))
    result: NDArray[Any] = (levels * DENORMAL).astype(np.float32)
    return result


NUMERIC_FAULTS: tuple[Fault[NumericSpec], ...] = (
    Fault(
        id="half-for-single",
        spec=NumericSpec,
        description="what is claimed to be float32 holds only numbers that float16 has",
        seen_in="ATC computes in fp16 by default and gives fp32 files; its float32 DCN convolves in fp16",
        change=lambda spec, p: replace(spec, half=True),
        applies=lambda s: s.claims_float32,
    ),
    Fault(
        id="nan",
        spec=NumericSpec,
        description="heads hold NaN",
        seen_in="tpu_mlir npz_tool compare takes NaN for 0 on both sides, and passes",
        change=lambda spec, p: replace(spec, nan=True),
    ),
    Fault(
        id="overflow",
        spec=NumericSpec,
        description="values beyond a limit are infinite",
        seen_in="float16 overflow beyond 65504; npz_tool takes infinity for 10000 on both sides",
        change=lambda spec, p: replace(spec, overflow=p[0]),
        parameters=("limit as a share of the head's largest",),
        draw=lambda r: (float(r.uniform(0.6, 0.95)),),
        guesses=((0.8,),),
        estimate="overflow",
    ),
    Fault(
        id="denormals",
        spec=NumericSpec,
        description="integers are read as the bits of floats: denormal numbers",
        seen_in="quantised outputs copied into a float buffer without their scale",
        change=lambda spec, p: replace(spec, as_integers=True),
    ),
    Fault(
        id="int8-shared-scale",
        spec=NumericSpec,
        description="the heads share one int8 scale",
        seen_in="tpu_mlir: hm, wh and reg concatenated into one tensor; Sophon keeps its heads in float for that",
        change=lambda spec, p: replace(spec, shared_scale=True),
    ),
    Fault(
        id="wh-saturated",
        spec=NumericSpec,
        description="wh saturates",
        seen_in="int8 ranges from a calibration without large objects",
        change=lambda spec, p: replace(spec, saturated=p[0]),
        parameters=("limit as a share of the largest of wh",),
        draw=lambda r: (float(r.uniform(0.4, 0.8)),),
        guesses=((0.5,),),
        estimate="saturated",
    ),
    Fault(
        id="int8-outlier",
        spec=NumericSpec,
        description="int8 ranges are many times too wide, as MinMax makes them of one outlier",
        seen_in="MinMax calibration (ONNX Runtime's default) on activations with outliers",
        change=lambda spec, p: replace(spec, outlier=p[0]),
        parameters=("range over the right one",),
        draw=lambda r: (float(r.uniform(4, 20)),),
        guesses=((8.0,),),
        estimate="outlier",
    ),
    Fault(
        id="hard-sigmoid",
        spec=NumericSpec,
        description="the sigmoid of hm is a piecewise linear one",
        seen_in="fast sigmoids (Ascend MindX CenterNet post-processing; HardSigmoid of int8 runtimes)",
        change=lambda spec, p: replace(spec, hard_sigmoid=True),
        applies=lambda s: s.card.output.hm == "probability",
    ),
)
