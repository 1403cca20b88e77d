"""The model under test: a model card with PyTorch weights, an ONNX file, or both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from harness.cards import DeviceCard, ModelCard
from harness.centernet.heads import read_heads
from harness.centernet.networks import HeadedNetwork, create_model
from harness.data.calibration import Calibration
from harness.devices.artifact import Exported
from harness.devices.onnxruntime import OnnxRuntimeDevice, run_unoptimised
from harness.devices.torch import TorchDevice
from harness.errors import HarnessError
from harness.export import DIALECTS, DYNAMIC, load_onnx_checked
from harness.export.check import check_export
from harness.export.load import stated_by
from harness.export.network import CardNetwork
from harness.export.onnx_file import onnx_sha256
from harness.files import file_sha256
from harness.paths import data_path
from harness.training.weights import load_weights
from harness.types import Heads, Outputs


@dataclass(frozen=True, slots=True)
class Subject:
    """The model under test.

    Attributes:
        card: Its contract.
        module: The PyTorch network in evaluation mode, float32; None for an ONNX without weights.
        onnx: The user's ONNX, which devices then run instead of an export of `module`.
        sha256: Of the weights, or of the ONNX where there are none.
    """

    card: ModelCard
    module: HeadedNetwork | None
    onnx: Path | None
    sha256: str

    @property
    def reference(self) -> TorchDevice | OnnxRuntimeDevice:
        """The device that gives the golden heads: PyTorch, or ONNX Runtime for an ONNX without weights."""
        return OnnxRuntimeDevice() if self.module is None else TorchDevice()

    @property
    def weights_sha256(self) -> str | None:
        """Of the PyTorch weights; None where there are none."""
        return None if self.module is None else self.sha256

    @property
    def onnx_sha256(self) -> str | None:
        """Of the user's ONNX and its external data; None where none was given."""
        return None if self.onnx is None else _whole_sha256(self.onnx)

    @property
    def static_batch(self) -> int | None:
        """The only batch size that an ONNX without weights takes; None where any is taken."""
        if self.module is not None or self.onnx is None:
            return None
        return _static_batch(self.onnx)

    @property
    def accumulation_length(self) -> int:
        """Terms of the longest sum in the network: input channels x kernel area of the widest convolution."""
        if self.module is not None:
            weights = [tuple(p.shape) for p in self.module.parameters() if p.dim() == 4]
        else:
            assert self.onnx is not None
            graph = load_onnx_checked(self.onnx).graph
            weights = [tuple(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 4]
        return max((math.prod(shape[1:]) for shape in weights), default=1)

    def exported(
        self, device: DeviceCard, folder: Path, batch_size: int, calibration: Calibration | None = None
    ) -> Exported:
        """The model in the dialect of a device; a file is written to `folder` unless it is there already.

        Args:
            device: Says the dialect.
            folder: For the file.
            batch_size: Of the file, in the dialects that have static shapes.
            calibration: Handed on to the device.

        Raises:
            HarnessError: The device takes the PyTorch network and there is none, the export fails, or what it wrote
                does not compute what the network computes.
        """
        if device.dialect == "none":
            return Exported(self.card, "none")
        if device.dialect == "module":
            if self.module is None:
                raise HarnessError(
                    f"device '{device.name}' runs the PyTorch network, and only an ONNX was given",
                    field="--weights",
                    remedy="give --weights FILE with a card that has [network], or choose --device onnxruntime",
                )
            return Exported(self.card, "module", module=self.module)
        if self.onnx is not None:
            return Exported(self.card, device.dialect, path=self.onnx, calibration=calibration)
        assert self.module is not None
        reason = device.reason_against("variable_shape")
        if self.card.input.keep_res and reason is not None:
            raise HarnessError(
                f"device '{device.name}' cannot run a keep_res card: {reason}",
                field="input.keep_res",
                remedy="choose --device torch, or a card with keep_res = false",
            )
        return replace(self._export(device.dialect, folder, batch_size), calibration=calibration)

    def is_exported_to(self, dialect: str) -> bool:
        """Tell whether a file is made for the devices of a dialect."""
        return dialect in DIALECTS and self.onnx is None and self.module is not None

    def export_name(self, dialect: str, batch_size: int) -> str:
        """Return the name of the file that is made for the devices of a dialect."""
        batch = "" if dialect in DYNAMIC else f"-batch{batch_size}"
        return f"{self.card.name}-{self.sha256[:12]}-{dialect}{batch}.{DIALECTS[dialect][1]}"

    def _export(self, dialect: str, folder: Path, batch_size: int) -> Exported:
        assert self.module is not None
        export, _ = DIALECTS[dialect]
        size = None if dialect in DYNAMIC else batch_size
        path = folder / self.export_name(dialect, batch_size)
        exported = Exported(self.card, dialect, self.module, path)
        if not path.exists():
            with TemporaryDirectory(dir=folder) as scratch:
                fresh = Path(scratch) / path.name
                export(self.module, self.card, fresh, batch_size=size, weights_sha256=self.sha256)
                if dialect != "standard":  # which ONNX Runtime runs as a device, held to the network in every run
                    check_export(replace(exported, path=fresh), batch_size)
                fresh.replace(path)
        return exported

    def second_opinion(self, images: NDArray[np.generic]) -> Heads:
        """Heads computed in another way than the reference does: in float64, or of an ONNX without its optimisations.

        Args:
            images: One batch as the card has it, of any number of images.
        """
        outputs: Outputs
        if self.module is not None:
            network = CardNetwork(self.module, self.card).double()
            with torch.inference_mode():
                tensors = network(torch.from_numpy(images).double())
            outputs = {name: tensor.numpy() for name, tensor in zip(self.card.output.names, tensors, strict=True)}
        else:
            assert self.onnx is not None
            run = partial(run_unoptimised, self.onnx, self.card.input.name)
            outputs = in_batches_of(self.static_batch, run, images)
        return read_heads(self.card, outputs, len(images))


@cache
def _whole_sha256(file: Path) -> str:
    """SHA-256 of an ONNX; where it keeps weights in files beside it, of its own hash and of theirs."""
    own = file_sha256(file)
    tensors = onnx.load(file, load_external_data=False).graph.initializer
    places = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    if not places:
        return own
    every = [own, *(file_sha256(file.parent / place) for place in sorted(places))]
    return sha256(" ".join(every).encode()).hexdigest()


@cache
def _static_batch(file: Path) -> int | None:
    return stated_by(load_onnx_checked(file)).batch_size


def in_batches_of(
    size: int | None, run: Callable[[NDArray[np.generic]], Outputs], images: NDArray[np.generic]
) -> Outputs:
    """Run images in batches of the only size that a model takes, the last one padded with zeros.

    Args:
        size: Of a batch; None where the model takes any, and all images are run at once.
        run: From one batch to its outputs.
        images: (N, ...).

    Returns:
        Outputs by name, (N, ...) without the padding.
    """
    if size is None:
        return run(images)
    count = len(images)
    padding = np.zeros((-count % size, *images.shape[1:]), images.dtype)
    padded = np.concatenate([images, padding])
    parts = [run(padded[start : start + size]) for start in range(0, len(padded), size)]
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def load_subject(card: ModelCard, weights: Path | None, onnx_file: Path | None) -> Subject:
    """The model of the options ``--model``, ``--weights`` and ``--onnx``.

    Raises:
        HarnessError: A file is missing or not of this card, or there are neither weights nor an ONNX.
    """
    if onnx_file is not None:
        load_onnx_checked(onnx_file)
    if weights is None and onnx_file is None and card.network is not None and card.network.weights is not None:
        weights = data_path("fixtures", card.network.weights)
    if weights is None:
        if onnx_file is None:
            raise HarnessError(
                f"model '{card.name}' ships without weights",
                field="--weights",
                remedy="give --weights FILE.pth, or --onnx FILE.onnx",
            )
        return Subject(card, None, onnx_file, onnx_sha256(onnx_file))
    if card.network is None:
        raise HarnessError(
            f"model '{card.name}' has no [network] that weights could be loaded into",
            field="--weights",
            remedy="add [network] with arch to the card, or give only --onnx",
        )
    network = card.network
    module = create_model(network.arch, card.head_channels, network.head_conv, network.width)
    load_weights(module, weights)
    module.eval().requires_grad_(False)
    return Subject(card, module, onnx_file, file_sha256(weights))
