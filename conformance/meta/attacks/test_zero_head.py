"""A head of the reference that is zero throughout does not end the diagnosis."""

from pathlib import Path

import pytest
import torch

from conformance.catalogue.cases import Case, narrow_network
from conformance.catalogue.diagnosing import PortDiagnosis, named
from conformance.support.small_model import small_card
from harness.faults import CATALOGUE, PortSpec
from harness.faults.diagnosis.explanation import Explanation

pytestmark = [pytest.mark.attacks, pytest.mark.usefixtures("one_thread")]


def explained(folder: Path, head: str, fault_id: str) -> list[Explanation]:
    """Explanations of the heads of a port with one fault, of a network with a head of zeros."""
    network = narrow_network()
    with torch.no_grad():
        for parameter in getattr(network, head).parameters():
            parameter.zero_()
    diagnosis = PortDiagnosis(Case("zero", small_card(None), network), folder)
    [fault] = [fault for fault in CATALOGUE if fault.id == fault_id]
    search = diagnosis.search(diagnosis.evidence(fault.apply(PortSpec(), fault.guesses[0])))
    search.budget = 0
    return search.explain()


@pytest.mark.parametrize(
    ("head", "fault"), [("wh", "input-channels-swapped"), ("hm", "wh-axes-swapped"), ("wh", "hm-sigmoid-twice")]
)
def test_mistake_is_named_though_a_head_is_zero(tmp_path: Path, head: str, fault: str) -> None:
    assert frozenset({fault}) in named(explained(tmp_path, head, fault))
