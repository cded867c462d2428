from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from edge_agent.host.process import Signals, rss_bytes
from edge_agent.testing import FakeClock
from tests.patience import DEADLINE


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
        assert not signals.take_news()
        assert not signals.take_reload()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert select.select([signals.wakeup], [], [], 20)[0]
        assert signals.take_news()
        assert not readable(signals.wakeup)
        assert signals.take_reload()
        assert not signals.take_news()
        assert not signals.take_reload()
        assert not signals.received


def test_reloads_that_come_thick_and_fast_are_taken_together() -> None:
    clock = FakeClock()
    taken = []
    with Signals(clock=clock) as signals:
        for number in range(1000):  # one every 10 ms
            signal.raise_signal(signal.SIGHUP)
            if signals.take_news():
                assert signals.take_reload()
                taken.append(number)
            assert not readable(signals.wakeup)
            clock.advance(0.01)
        assert len(taken) == 10
        # The last one is not lost.
        assert not signals.take_news()
        clock.advance(1)
        assert signals.take_news()
        assert signals.take_reload()


def test_a_process_that_ends_is_news() -> None:
    with Signals(children=True) as signals:
        assert not signals.take_news()
        pid = os.posix_spawn("/bin/true", ["true"], {})
        signals.wait(DEADLINE)
        assert signals.take_news()
        assert not signals.take_reload()
        assert not signals.take_news()
        assert os.waitpid(pid, 0)[1] == 0
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_a_wait_ends_with_a_signal() -> None:
    with Signals() as signals:
        signals.wait(0)
        signal.raise_signal(signal.SIGHUP)
        signals.wait(DEADLINE)
        assert not readable(signals.wakeup)
        signal.raise_signal(signal.SIGTERM)
        signals.wait(DEADLINE)
        # Whatever else waits has to end as well.
        assert readable(signals.wakeup)


def test_a_stop_that_comes_with_a_reload_still_wakes() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.take_news()
        assert signals.take_reload()
        assert signals.received
        assert readable(signals.wakeup)


def test_large_blocks_are_returned_once_they_are_free() -> None:
    """In a process of its own, because it holds for all of it."""
    script = (
        "import ctypes, sys\n"
        "from edge_agent.host.process import return_large_blocks\n"
        "libc = ctypes.CDLL(None)\n"
        "fields = 'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost'.split()\n"
        "Info = type('Info', (ctypes.Structure,), {'_fields_': [(one, ctypes.c_size_t) for one in fields]})\n"
        "if not hasattr(libc, 'mallinfo2'):\n    sys.exit(77)\n"
        "libc.mallinfo2.restype = Info\n"
        "if sys.argv[1] == 'returned':\n    return_large_blocks()\n"
        "bytearray(16 << 20)\n"  # from here on glibc would keep smaller ones
        "before = libc.mallinfo2().hblkhd\n"
        "block = bytearray(8 << 20)\n"
        "print(libc.mallinfo2().hblkhd - before >= 8 << 20)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("MALLOC_MMAP_THRESHOLD_", None)
    for how, is_on_its_own in ("returned", "True"), ("kept", "False"):
        run = subprocess.run(
            [sys.executable, "-c", script, how], env=environment, capture_output=True, text=True, check=False
        )
        if run.returncode == 77:
            pytest.skip("not glibc, or before 2.33")
        assert (run.stdout.strip(), run.stderr) == (is_on_its_own, "")
