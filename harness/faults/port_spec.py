"""Specification of a whole port: one record a stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.faults.stages.batch import BatchSpec
from harness.faults.stages.decode import DecodeSpec
from harness.faults.stages.evaluate import EvaluateSpec
from harness.faults.stages.heads import HeadsSpec
from harness.faults.stages.network import NetworkSpec
from harness.faults.stages.numeric import NumericSpec
from harness.faults.stages.preprocess import PreprocessSpec
from harness.faults.stages.results import ResultsSpec
from harness.faults.stages.speed import SpeedSpec


@dataclass(frozen=True, slots=True)
class PortSpec:
    """Specification of each stage that a port computes between an image and its AP; right by default.

    Every record is frozen and hashable, so that what two ports have in common is computed once. The fields are named
    as the stages are, see `harness.faults.fault.FaultStage`.
    """

    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    heads: HeadsSpec = field(default_factory=HeadsSpec)
    numeric: NumericSpec = field(default_factory=NumericSpec)
    batch: BatchSpec = field(default_factory=BatchSpec)
    decode: DecodeSpec = field(default_factory=DecodeSpec)
    results: ResultsSpec = field(default_factory=ResultsSpec)
    evaluate: EvaluateSpec = field(default_factory=EvaluateSpec)
    speed: SpeedSpec = field(default_factory=SpeedSpec)
