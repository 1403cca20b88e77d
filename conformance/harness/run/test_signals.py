"""Signals: blocks are left in order, and the exit status says which signal it was."""

import signal
import threading
from collections.abc import Iterator

import pytest

from conformance.support.default_signals import default_signals
from harness.run import signals
from harness.run.signals import Received, Terminated, received_signals


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    with default_signals():
        yield


@pytest.mark.parametrize(
    ("number", "kind", "status"), [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, Terminated, 143)]
)
def test_signal_is_an_exception_and_its_status_is_known(
    number: signal.Signals, kind: type[BaseException], status: int
) -> None:
    with received_signals() as received:
        assert (received.number, received.status) == (None, None)
        with pytest.raises(kind):
            signal.raise_signal(number)
    assert (received.number, received.status) == (number, status)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_second_sigterm_at_once_does_not_disturb_the_cleaning_up(monkeypatch: pytest.MonkeyPatch) -> None:
    received = Received()
    with pytest.raises(Terminated):
        received.terminate(signal.SIGTERM, None)
    received.terminate(signal.SIGTERM, None)
    monkeypatch.setattr(signals, "SAME_S", 0.0)
    with pytest.raises(Terminated):
        received.terminate(signal.SIGTERM, None)


def test_ignored_signals_and_handlers_of_others_stay() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with received_signals() as received:
        signal.raise_signal(signal.SIGTERM)
    assert received.number is None
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_nothing_is_changed_outside_the_main_thread() -> None:
    found: list[object] = []

    def look() -> None:
        with received_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
