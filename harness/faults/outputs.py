"""What becomes of the network's outputs: names, order, layout, numbers, and which slot they come back in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.centernet.decode import sigmoid
from harness.faults.forms import HeadsForm, NumberForm, SlotForm

Arrays = dict[str, NDArray[Any]]

RIGHT = (HeadsForm(), NumberForm())
INT8_LEVELS = 127
DENORMAL = 2.0**-149
"""The smallest positive float32: what the integer 1 is when its bits are read as a float."""


def spoil(card: ModelCard, form: HeadsForm, numbers: NumberForm, heads: Mapping[str, NDArray[Any]]) -> Arrays:
    """The heads of a batch as a port of these forms gives them.

    Args:
        card: The contract that the port should keep.
        form: How it tells its outputs apart.
        numbers: What its numbers go through.
        heads: (N, channels, h, w) by name, right, hm as logits. Not changed.
    """
    if (form, numbers) == RIGHT and card.output.hm == "logits":
        return dict(heads)
    found = {name: np.asarray(values) for name, values in heads.items()}
    found["hm"] = _activated(card, form, numbers, found["hm"])
    found["wh"] = found["wh"] * np.asarray(form.wh_factor, found["wh"].dtype)
    if form.wh_xy:
        pairs = found["wh"].reshape(len(found["wh"]), -1, 2, *found["wh"].shape[2:])
        found["wh"] = pairs[:, :, ::-1].reshape(found["wh"].shape)
    if form.reg_xy and "reg" in found:
        found["reg"] = found["reg"][:, ::-1]
    if form.swapped and "reg" in found:
        found["wh"], found["reg"] = found["reg"], found["wh"]
    if form.reversed:
        found = dict(zip(found, list(found.values())[::-1], strict=True))
    if form.interleaved:
        found = {name: _interleaved(values) for name, values in found.items()}
    if form.transposed:
        found = {name: _transposed(values) for name, values in found.items()}
    return {name: np.ascontiguousarray(values) for name, values in _numbers(numbers, found).items()}


def _activated(card: ModelCard, form: HeadsForm, numbers: NumberForm, hm: NDArray[Any]) -> NDArray[Any]:
    """From logits to what the port gives for hm."""
    times = form.sigmoid + (card.output.hm == "probability")
    if times > 0 and numbers.hard_sigmoid:
        hm = np.clip(hm * np.asarray(0.2, hm.dtype) + np.asarray(0.5, hm.dtype), 0, 1)
        times -= 1
    for _ in range(times):
        hm = sigmoid(hm)
    return hm


def _interleaved(values: NDArray[Any]) -> NDArray[Any]:
    """The bytes of (N, h, w, channels), read as (N, channels, h, w)."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).reshape(values.shape)


def _transposed(values: NDArray[Any]) -> NDArray[Any]:
    """The bytes of (N, channels, w, h), read as (N, channels, h, w)."""
    return np.ascontiguousarray(values.transpose(0, 1, 3, 2)).reshape(values.shape)


def _numbers(form: NumberForm, heads: Arrays) -> Arrays:
    found = heads
    if form.saturated is not None:
        limit = (form.saturated * _largest(found["wh"])).astype(found["wh"].dtype)
        found = {**found, "wh": np.clip(found["wh"], -limit, limit)}
    if form.shared_scale:
        largest = np.max([_largest(values) for values in found.values()], axis=0)
        found = {name: _quantised(values, largest) for name, values in found.items()}
    if form.outlier is not None:
        found = {name: _quantised(values, form.outlier * _largest(values)) for name, values in found.items()}
    if form.overflow is not None:
        found = {name: _overflowed(values, form.overflow * _largest(values)) for name, values in found.items()}
    if form.as_integers:
        found = {name: _as_integers(values) for name, values in found.items()}
    if form.half:
        with np.errstate(over="ignore"):
            found = {name: values.astype(np.float16).astype(values.dtype) for name, values in found.items()}
    if form.nan:
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


def source_of(form: SlotForm, index: int, batch_size: int) -> int:
    """Index of the image whose outputs come back where those of image `index` should.

    Images run in order in batches of `batch_size`; where there is no batch before, nothing is stale.
    """
    first, slot = index - index % batch_size, index % batch_size
    before = index - batch_size
    if form.order == "reversed":
        return first + batch_size - 1 - slot
    if form.order == "first":
        return first
    if form.order == "last stale":
        return before if slot == batch_size - 1 and before >= 0 else index
    if form.order == "run before":
        return max(before, slot)
    return index
