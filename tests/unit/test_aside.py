"""Work in a thread of its own: its end wakes who waits, and it never coincides with a fork."""

from __future__ import annotations

import ctypes
import hashlib
import threading

import pytest

from edge_agent.host.apart import Apart, Limits
from edge_agent.host.aside import STACK, Aside
from edge_agent.host.process import Signals
from tests.patience import DEADLINE

LIMITS = Limits(seconds=10, patience=DEADLINE, memory=256 << 20)


def test_its_end_wakes_who_waits() -> None:
    go = threading.Event()

    def work() -> str:
        assert go.wait(DEADLINE)
        return threading.current_thread().name

    with Signals(children=True) as signals:
        one = Aside(work)
        assert not one.ended
        assert not signals.take_news()
        go.set()
        while not signals.take_news():
            signals.wait(DEADLINE)
        assert one.ended
    assert one.result() == "aside"


def test_what_it_raises_is_raised_where_it_is_asked_for() -> None:
    def work() -> None:
        raise ValueError("of all things")

    with pytest.raises(ValueError, match="of all things"):
        Aside(work).result()


def test_no_process_begins_while_a_thread_runs() -> None:
    """What native code holds while it works would be held in the process for ever."""
    held, has_it = threading.Lock(), threading.Event()

    def work() -> None:
        with held:
            has_it.set()
            hashlib.pbkdf2_hmac("sha256", b"long", b"native", 300_000)

    one = Aside(work)
    assert has_it.wait(DEADLINE)
    apart = Apart(lambda tell: tell("free" if held.acquire(blocking=False) else "held"), LIMITS)
    apart.wait()
    assert apart.report() == ["free"]
    apart.close()
    one.result()


def test_it_has_more_stack_than_what_is_tested_apart() -> None:
    """So what did not overflow there does not here, however little the system gives to threads, or however much to the process."""

    def size() -> int:
        libc, attributes, found = ctypes.CDLL(None), ctypes.create_string_buffer(256), ctypes.c_size_t()
        libc.pthread_self.restype = ctypes.c_void_p
        assert not libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes)
        assert not libc.pthread_attr_getstacksize(attributes, ctypes.byref(found))
        return found.value

    before = threading.stack_size(1 << 20)
    try:
        assert Aside(size).result() >= STACK
        assert threading.stack_size() == 1 << 20, "others get what they did"
    finally:
        threading.stack_size(before)
