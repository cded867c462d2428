"""The benchmark in its smallest form: the agent and the echo, a moment each. It needs no web framework."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.processes import BenchmarkError, Program, wait_for_port
from tests.brokers import free_port
from tests.e2e.conftest import ROOT, call
from tests.patience import DEADLINE
from tests.requirements import require_mosquitto

COMMAND = (sys.executable, "-m", "benchmarks", "--smoke")


def test_agent_and_echo_are_measured_side_by_side(tmp_path: Path) -> None:
    require_mosquitto()
    done = call(*COMMAND, "--only", "agent", "--only", "echo", "--out", tmp_path, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rate / stock echo" in done.stdout
    report = json.loads((tmp_path / "bench.json").read_text())
    assert {one["subject"] for one in report["measurements"]} == {"agent", "echo"}
    for one in report["measurements"]:
        assert one["messages"] > 0
        assert 0 < one["p50"] <= one["p99"]
        assert one["rss"] > 1 << 20
    assert report["agreement"] == {"agent-5": 1.0}
    assert set(report["start_seconds"]) == {"import", "agent", "echo"}
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def members(session: int) -> list[int]:
    """Every living process of a session: the benchmark's children have groups of their own, but are of its session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def test_nothing_is_left_running_after_an_interruption(tmp_path: Path) -> None:
    require_mosquitto()
    with subprocess.Popen(
        [*COMMAND, "--only", "echo", "--rounds", "100", "--out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as bench:
        assert bench.stderr is not None
        seen = bench.stderr.readline()
        assert "starts, 1 of 100" in seen
        while "starts, 2" not in seen:
            seen = bench.stderr.readline()
            assert seen, "it ended too early"
        assert len(members(bench.pid)) > 1
        bench.send_signal(signal.SIGINT)
        _, said = bench.communicate(timeout=DEADLINE)
    assert bench.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert members(bench.pid) == []


def test_a_program_that_dies_is_told_with_what_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with ExitStack() as owner:
        program = Program("subject", command, owner=owner, directory=tmp_path, cwd=tmp_path, environment={})
        with pytest.raises(BenchmarkError, match=r"(?s)subject ended with status 1.*no such model"):
            wait_for_port(program, free_port())


def test_cpu_and_memory_are_those_of_the_workers_too(tmp_path: Path) -> None:
    worker = "import time\nblock = b'x' * (64 << 20)\nwhile True: time.process_time()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    command = [sys.executable, "-c", parent]
    with ExitStack() as owner:
        program = Program("parent", command, owner=owner, directory=tmp_path, cwd=tmp_path, environment={})
        deadline = time.monotonic() + DEADLINE
        while program.cpu_seconds() < 0.2 or program.memory().rss < 64 << 20:
            program.check()
            assert time.monotonic() < deadline, "its worker was not seen"
        assert 0 < program.memory().pss <= program.memory().rss
