"""AIPP: normalisation inside the om, whose input is then raw pixels."""

from __future__ import annotations

from harness.cards import ModelCard
from harness.cards.model import Input
from harness.errors import HarnessError

PIXELS = "RGB888_U8"


def aipp_config(card: ModelCard) -> str:
    """Write the file for ``--insert_op_conf``: ``(pixel - min_chn) * var_reci_chn``, the normalisation of `preprocess`.

    The om takes RGB pixels, (height, width, 3) uint8. The chip exchanges red and blue if the network takes BGR, and
    the coefficients apply after that. The mean is written to ``min_chn``, since ``mean_chn`` holds whole numbers. AIPP
    cannot warp an image: the host does that.

    Raises:
        HarnessError: The card's input is not float32 NCHW of a fixed size.
    """
    spec = card.input
    if spec.dtype != "float32" or spec.layout != "NCHW" or spec.keep_res:
        raise HarnessError(
            "AIPP takes the place of a normalisation to float32 NCHW at a fixed size",
            field="--aipp",
            remedy="leave --aipp out: this card's input needs none, or has no fixed size",
        )
    lines = [
        "aipp_op {",
        "  aipp_mode: static",
        "  related_input_rank: 0",
        f"  input_format: {PIXELS}",
        f"  src_image_size_w: {spec.width}",
        f"  src_image_size_h: {spec.height}",
        "  crop: false",
        "  csc_switch: false",
        f"  rbuv_swap_switch: {'true' if spec.channel_order == 'BGR' else 'false'}",
    ]
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        lines += [
            f"  min_chn_{channel}: {mean / spec.scale:.9g}",
            f"  var_reci_chn_{channel}: {spec.scale / std:.9g}",
        ]
    return "\n".join([*lines, "}", ""])


def pixel_card(card: ModelCard) -> ModelCard:
    """Make the card of the om with AIPP: uint8 RGB pixels, (height, width, 3), the same geometry."""
    spec = card.input
    pixels = Input(
        name=spec.name,
        height=spec.height,
        width=spec.width,
        layout="NHWC",
        dtype="uint8",
        channel_order="RGB",
        scale=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        geometry=spec.geometry,
        pad_value=spec.pad_value,
    )
    return card.model_copy(update={"name": f"{card.name}_aipp", "input": pixels})
