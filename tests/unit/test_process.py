from __future__ import annotations

import os
import select
import signal

import pytest

from edge_agent.process import Signals, rss_bytes


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_wakes_a_poll(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Signals() as signals:
        assert not signals.received
        assert not readable(signals.wakeup)
        os.kill(os.getpid(), number)
        assert select.select([signals.wakeup], [], [], 20)[0]
        assert signals.received
    assert signal.getsignal(number) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_flood_of_signals_does_no_harm() -> None:
    with Signals() as signals:
        for _ in range(70_000):  # more than a pipe holds
            signal.raise_signal(signal.SIGTERM)
        assert signals.received


def test_its_descriptors_are_closed() -> None:
    with Signals() as signals:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(signals.wakeup)


def test_memory_is_that_of_a_python_process() -> None:
    assert 5_000_000 < rss_bytes() < 10_000_000_000


def test_a_reload_is_taken_once_and_the_wakeup_sleeps_again() -> None:
    with Signals() as signals:
        assert not signals.take_reload()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert select.select([signals.wakeup], [], [], 20)[0]
        assert signals.take_reload()
        assert not readable(signals.wakeup)
        assert not signals.take_reload()
        assert not signals.received


def test_a_stop_that_comes_with_a_reload_still_wakes() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.take_reload()
        assert signals.received
        assert readable(signals.wakeup)
