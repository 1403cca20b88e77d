"""Published figures of the model and the devices of a run, as their cards state them."""

from __future__ import annotations

from collections.abc import Iterator

from harness.cards import AnyCard, DeviceCard
from harness.report.records import Document, Published
from harness.run.checked import Checked


def with_published(document: Document, session: Checked) -> Document:
    """Return the document with what is published of its model and devices; that of a training as it is."""
    model = session.model_card
    if model is None:
        return document
    of_device = {session.device(name).card.name: session.device(name).card for name in session.options.devices}
    runs = [
        run.model_copy(update={"published": tuple(_published(model, of_device[run.device]))}) for run in document.runs
    ]
    return document.model_copy(update={"runs": tuple(runs)})


def _published(model: AnyCard, device: DeviceCard) -> Iterator[Published]:
    for ap in model.published:
        of = f"{ap.images} images, {ap.resolution}"
        yield Published(figure="AP", value=ap.ap, of=of, images=ap.images, source=ap.source)
    for one in device.published_of(model):
        of = f"{one.precision}, batch size {one.batch_size}"
        speed = Published(
            figure="fps", value=one.fps, of=of, precision=one.precision, batch_size=one.batch_size, source=one.source
        )
        yield speed
        if one.ap is not None:
            yield speed.model_copy(update={"figure": "AP", "value": one.ap, "of": f"val2017, {of}"})
