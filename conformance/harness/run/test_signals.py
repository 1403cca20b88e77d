"""Signals: blocks are left in order, and the exit status says which signal it was."""

import signal
import threading
from collections.abc import Iterator

import pytest

from conformance.support.default_signals import default_signals
from harness.run import signals
from harness.run.signals import Received, Terminated, held_signals, received_signals


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_held_signal_arrives_at_the_end_of_the_block(number: signal.Signals) -> None:
    done: list[str] = []

    def work() -> None:
        with held_signals():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("whole")
        done.append("more")

    with received_signals() as received, pytest.raises(KeyboardInterrupt):
        work()
    assert (done, received.number) == (["whole"], number)


def test_error_in_a_block_counts_and_not_the_signal_that_was_held() -> None:
    def work() -> None:
        with held_signals():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        work()
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
