"""What lies within rounding of the kink of a ReLU can be let pass, or blocked."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harness.centernet2.kinks import RelusDecided

X = torch.tensor([-10.0, -1e-6, 0.0, 1e-6, 10.0])


@pytest.mark.parametrize("relu", [torch.relu, F.relu, nn.ReLU()])
@pytest.mark.parametrize(("passes", "gradient"), [(True, [0, 1, 1, 1, 1]), (False, [0, 0, 0, 0, 1])])
def test_gradient_within_the_band_is_as_decided(relu: nn.Module, passes: bool, gradient: list[float]) -> None:
    x = X.clone().requires_grad_()
    with RelusDecided(1e-6, passes=passes):
        relu(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == gradient
    outside = X.clone().requires_grad_()
    relu(outside).sum().backward()
    assert outside.grad is not None
    assert outside.grad.tolist() == [0, 0, 0, 1, 1]
