"""Reference networks: every name, shape and raw head is that of the official CenterNet."""

import copy
import tomllib
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from conformance.support.recipe import recipe_input, recipe_network
from harness.centernet.networks import ARCHITECTURES, DETECTION_HEADS, create_model
from harness.centernet.networks.heads import HM_PRIOR, bilinear_upsampling
from harness.errors import HarnessError
from harness.paths import data_path
from harness.types import Float32

ENTRIES = {"dla_34": 400, "dlav0_34": 326, "res_18": 150, "res_50": 348, "resdcn_18": 177, "resdcn_101": 681}
"""Entries of the official state dicts, of every kind of network: with and without DCN, basic blocks and bottlenecks."""
OFFICIAL = list(ENTRIES)

Shapes = dict[str, tuple[int, ...]]


@cache
def official_shapes(arch: str) -> Shapes:
    """Read the shape of every entry of the official state dict of `arch`."""
    shapes: Shapes = {}
    tables = tomllib.loads(data_path("fixtures", "golden", "state_dict.toml").read_text())
    for entries in (entries for name, entries in tables.items() if arch in name.split()):
        shapes |= {name: tuple(shape) for name, shape in entries.get("tensor", {}).items()}
        for norm, channels in entries.get("norm", {}).items():
            leaves = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
            shapes |= {f"{norm}.{leaf}": s for leaf, s in {**leaves, "num_batches_tracked": ()}.items()}
    return shapes


def shapes_of(model: torch.nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("arch", OFFICIAL)
def test_names_and_shapes_are_the_official_ones(arch: str) -> None:
    assert len(official_shapes(arch)) == ENTRIES[arch]
    assert shapes_of(create_model(arch)) == official_shapes(arch)


@pytest.mark.parametrize("arch", OFFICIAL)
def test_raw_heads_equal_the_official_ones(arch: str) -> None:
    golden = np.load(data_path("fixtures", "golden", "heads.npz"))
    with torch.inference_mode():
        heads = recipe_network(arch)(torch.from_numpy(recipe_input()))
    assert list(heads) == ["hm", "wh", "reg"]
    for name, head in heads.items():
        assert head.shape == (1, DETECTION_HEADS[name], 64, 96)
        channels = head[0, ::10] if name == "hm" else head[0]
        difference = np.abs(channels.flatten(1)[:, ::5].numpy() - golden[f"{arch}/{name}"]).max()
        allowed = 1e-4 * golden[f"{arch}/{name}/largest"]
        assert difference <= allowed, f"{arch} {name}: differs by {difference:.3g}, allowed {allowed:.3g}"


@pytest.mark.parametrize("arch", OFFICIAL)
def test_float32_heads_are_those_of_float64_but_for_rounding(arch: str) -> None:
    model = recipe_network(arch, width=0.25)
    x = torch.from_numpy(recipe_input(3, 64, 96))
    heads, exact = model(x), copy.deepcopy(model).double()(x.double())
    for name, head in heads.items():
        assert exact[name].dtype == torch.float64
        error = float((head - exact[name]).abs().max() / exact[name].abs().max())
        # Sums of 1152 products in float32: about 2^-24 x sqrt(1152) = 2e-6; exactly 0 would be no float64 run.
        assert 0 < error < 1e-5, f"{arch} {name}: relative error {error:.3g}"


@pytest.mark.parametrize("arch", OFFICIAL)
def test_samples_of_a_batch_do_not_touch_each_other(arch: str) -> None:
    model = recipe_network(arch, width=0.25)
    images = [torch.from_numpy(recipe_input(seed, 64, 96)) for seed in (1, 2)]
    together = model(torch.cat(images))
    for slot, image in enumerate(images):
        for name, head in model(image).items():
            torch.testing.assert_close(together[name][slot], head[0], rtol=0, atol=1e-5 * float(head.abs().max()))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_heads_lie_on_a_grid_of_stride_4(arch: str) -> None:
    heads = create_model(arch, width=0.125).eval()(torch.zeros(2, 3, 64, 96))
    expected = {name: (2, channels, 16, 24) for name, channels in DETECTION_HEADS.items()}
    assert {name: tuple(head.shape) for name, head in heads.items()} == expected


@pytest.mark.parametrize("arch", ["dla_34", "dlav0_34", "res_18", "resdcn_18"])
@pytest.mark.parametrize("head_conv", [0, 8])
def test_heads_of_another_kind_have_the_channels_asked_for(arch: str, head_conv: int) -> None:
    model = create_model(arch, {"hm": 1, "hps": 34, "rank": 3}, head_conv, width=0.25).eval()
    heads = model(torch.zeros(1, 3, 64, 64))
    assert [(name, head.shape[1]) for name, head in heads.items()] == [("hm", 1), ("hps", 34), ("rank", 3)]
    state = shapes_of(model)
    assert {name for name in state if name.startswith(("wh.", "reg."))} == set()
    last = ("hps.2.weight", (34, 8, 1, 1)) if head_conv else ("hps.weight", (34, state["hm.weight"][1], 1, 1))
    assert last in state.items()


@pytest.mark.parametrize("arch", OFFICIAL)
def test_width_scales_every_layer_but_what_is_given_from_outside(arch: str) -> None:
    given = {3, 27, 80, 2, 1000}  # colours, offsets and masks, classes, wh and reg, the classifier
    official, half = official_shapes(arch), shapes_of(create_model(arch, width=0.5))
    assert half.keys() == official.keys()
    for name, shape in official.items():
        # The second dimension of an upsampling per channel, and all after it, are no channels of the network.
        channels = [side if side in given or side == 1 else side // 2 for side in shape[:2]]
        assert half[name] == (*channels, *shape[2:]), name


def test_unknown_architecture_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(HarnessError, match="unknown architecture 'dla_60'") as caught:
        create_model("dla_60")
    assert caught.value.remedy is not None
    assert all(arch in caught.value.remedy for arch in ARCHITECTURES)


@pytest.mark.parametrize("head_conv", [0, 16])
def test_every_place_starts_as_a_centre_with_probability_one_tenth(head_conv: int) -> None:
    model = create_model("res_18", head_conv=head_conv, width=0.125)
    last: Tensor = model.get_parameter("hm.2.bias" if head_conv else "hm.bias")
    torch.testing.assert_close(torch.sigmoid(last), torch.full((80,), 0.1), rtol=0, atol=1e-3)
    assert HM_PRIOR == -2.19


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_upsampling_starts_as_bilinear_interpolation(factor: int) -> None:
    rows, columns = np.mgrid[0:6, 0:7].astype(np.float32)
    plane: Float32 = np.stack([2 * rows - 3 * columns + 1, 5 * columns])
    upsampled = bilinear_upsampling(2, factor)(torch.from_numpy(plane[None])).detach().numpy()[0]
    assert upsampled.shape == (2, 6 * factor, 7 * factor)
    # A plane interpolated linearly is the same plane, sampled at pixel centres; the border fades to zero.
    y, x = ((np.arange(n * factor) + 0.5) / factor - 0.5 for n in (6, 7))
    expected = np.stack([2 * y[:, None] - 3 * x + 1, 5 * np.broadcast_to(x, (len(y), len(x)))])
    inner = (slice(None), slice(factor, -factor), slice(factor, -factor))
    np.testing.assert_allclose(upsampled[inner], expected[inner], atol=1e-4)
