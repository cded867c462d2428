"""Work in a process of its own: how it may end, and that nothing of it comes back to us but its report."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.host.apart import Apart, Limits
from edge_agent.host.aside import STACK
from edge_agent.host.process import Signals
from tests.patience import DEADLINE

Tell = Callable[[str], None]
LIMITS = Limits(seconds=1, patience=DEADLINE, memory=256 << 20)


def done(work: Callable[[Tell], None], limits: Limits = LIMITS) -> tuple[list[str], str | None]:
    apart = Apart(work, limits)
    try:
        apart.wait()
        assert apart.ended
        return apart.report(), apart.trouble()
    finally:
        apart.close()


def test_what_it_tells_is_read_after_its_end() -> None:
    def work(tell: Tell) -> None:
        tell("first")
        tell("x" * 1_000_000)  # more than a pipe holds

    report, trouble = done(work)
    assert trouble is None
    assert [len(line) for line in report] == [5, 1_000_000]


def _hang(tell: Tell) -> None:
    tell("so far")
    signal.pause()


def _loop(tell: Tell) -> None:
    tell("so far")
    while True:
        pass


def _eat(tell: Tell) -> None:
    tell("so far")
    kept = []
    while True:
        kept.append(bytearray(16 << 20))


def _fail(tell: Tell) -> None:
    tell("so far")
    raise ArithmeticError("of all things")


def _end_by(number: int) -> Callable[[Tell], None]:
    def work(tell: Tell) -> None:
        tell("so far")
        os.kill(os.getpid(), number)

    return work


@pytest.mark.parametrize(
    ("work", "limits", "why"),
    [
        (_loop, LIMITS, "it exceeded its limit of 1 s of processor time"),
        (_hang, LIMITS._replace(patience=1), "it exceeded its limit of 1 s"),
        (_eat, LIMITS._replace(seconds=30), "it exceeded its memory limit of 256 MiB"),
        (_fail, LIMITS, "it failed: ArithmeticError: of all things"),
        (_end_by(signal.SIGSEGV), LIMITS, "it crashed (SIGSEGV)"),
        (_end_by(signal.SIGABRT), LIMITS, "it crashed (SIGABRT)"),
        (_end_by(signal.SIGKILL), LIMITS, "it was killed, most likely because the system ran out of memory"),
    ],
)
def test_how_it_may_end(work: Callable[[Tell], None], limits: Limits, why: str) -> None:
    report, trouble = done(work, limits)
    assert trouble == why
    assert report[0] == "so far"


def test_it_shares_nothing_with_us(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    def work(tell: Tell) -> None:
        print("loud")  # noqa: T201
        os.write(1, b"loud")
        os.write(2, b"loud")
        tell(" ".join(sorted(entry.name for entry in Path("/proc/self/fd").iterdir())))
        tell(str({signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)}))
        tell(str(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
        tell(str([resource.getrlimit(what)[0] for what in (resource.RLIMIT_CORE, resource.RLIMIT_CPU)]))
        tell(str(resource.getrlimit(resource.RLIMIT_AS)[0]))
        tell(Path("/proc/self/oom_score_adj").read_text().strip())

    with (tmp_path / "file").open(), Signals(children=True) as signals:
        (descriptors, handlers, blocked, few, most, score), trouble = done(work)
        assert not signals.received
    assert trouble is None
    assert len(descriptors.split()) == 6  # three standard ones, Python's own, the report, and that of the listing
    assert handlers == str({signal.SIG_DFL})
    assert (blocked, few, score) == ("set()", "[0, 1]", "1000")
    # What is mapped changes by itself, either way.
    assert abs(int(most) - mapped - LIMITS.memory) < 64 << 20
    assert capfd.readouterr() == ("", "")


def test_its_end_wakes() -> None:
    with Signals(children=True) as signals:
        apart = Apart(lambda tell: tell("done"), LIMITS)
        ends = time.monotonic() + DEADLINE
        while not apart.ended:
            signals.wait(DEADLINE)
            assert time.monotonic() < ends
        assert signals.take_news()
        assert apart.report() == ["done"]
        apart.close()


def test_a_signal_to_us_meanwhile_is_ours_and_not_its() -> None:
    with Signals(children=True) as signals:
        apart = Apart(_hang, LIMITS)
        os.kill(os.getpid(), signal.SIGTERM)
        signals.wait(DEADLINE)
        assert signals.received
        assert not apart.ended
        apart.close()
        assert apart.trouble() == "it was killed, most likely because the system ran out of memory"


def test_a_signal_to_it_ends_it() -> None:
    apart = Apart(_hang, LIMITS)
    os.kill(apart.pid, signal.SIGTERM)
    apart.wait()
    assert apart.trouble() == "it crashed (SIGTERM)"
    apart.close()
    apart.close()


@pytest.fixture
def children_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("children_ignored")
def test_where_nobody_is_told_of_the_end_of_children() -> None:
    assert done(lambda tell: tell("done")) == (["done"], None)
    apart = Apart(_hang, LIMITS)
    apart.close()
    assert apart.ended


def forbid(call: int) -> None:
    """Let a system call fail in this process and its children from now on, as systemd's SystemCallFilter= does."""
    load, if_equal, answer = 0x20, 0x15, 0x06
    steps = [
        (load, 0, 0, 0),
        (if_equal, 0, 1, call),
        (answer, 0, 0, 0x0005_0000 | errno.EPERM),
        (answer, 0, 0, 0x7FFF_0000),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    filtering = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, filtered = 38, 22, 2
    for what in ((no_new_privileges, 1, 0, 0, 0), (set_seccomp, filtered, filtering)):
        if libc.prctl(*what):
            raise OSError(ctypes.get_errno(), "prctl")


def test_where_nobody_may_be_nice_it_works_all_the_same() -> None:
    """systemd's @resources has setpriority(2); a service that is kept from those has to be able to try a model."""
    number = {"x86_64": 141, "aarch64": 140}.get(os.uname().machine)
    if number is None or sys.maxsize < 1 << 32:
        pytest.skip("the number of setpriority(2) is not known here")

    # In a process of its own: what other tests have loaded here may not stand being forked twice.
    script = (
        "import os, sys\n"
        "from tests.unit.test_apart import LIMITS, done, forbid\n"
        f"forbid({number})\n"
        "try:\n    os.nice(1)\n    sys.exit('it may be nice')\nexcept PermissionError:\n    pass\n"
        "for nice in (0, 10):\n    print(done(lambda tell: tell('done'), LIMITS._replace(nice=nice)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (run.stdout, run.returncode) == (f"{(['done'], None)}\n" * 2, 0), run.stderr


def test_others_come_first() -> None:
    ours = os.nice(0)
    assert done(lambda tell: tell(str(os.nice(0))), LIMITS._replace(nice=3)) == ([str(min(ours + 3, 19))], None)


@pytest.mark.parametrize("ours", [resource.RLIM_INFINITY, 64 << 20, 2 << 20])
def test_it_has_less_stack_than_we_have(ours: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY and ours not in range(hard + 1):
        pytest.skip("this process may not have so much")
    resource.setrlimit(resource.RLIMIT_STACK, (ours, hard))
    try:
        report, trouble = done(lambda tell: tell(str(resource.getrlimit(resource.RLIMIT_STACK)[0])))
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
    assert (report, trouble) == ([str(1 << 20 if ours == 2 << 20 else STACK // 2)], None)
