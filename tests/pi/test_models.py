"""`edge-agent model` on a machine that boots: root's commands in the directory of a service with a user of its own (DynamicUser)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pi.machine import Machine, wait_until
from tests.pi.service import NOBODY, UNIT, ask, serve, wait_online
from tests.versions import version

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

MODELS = "/var/lib/edge-agent/models"


@pytest.fixture(scope="module")
def served(machine: Machine, deb: Path) -> Machine:
    """The service, running with the configuration that it comes with; two more versions of its model lie in root's home."""
    serve(machine, deb)
    for number in ("1.1.0", "1.2.0"):
        (machine.directory / f"root/genre-{number}.onnx").write_bytes(version(number))
    return machine


def model(machine: Machine, *words: str, user: str = "root") -> tuple[int, str]:
    """Call `edge-agent model`; return its status, and what it printed."""
    ran = machine.run("runuser", "-u", user, "--", "edge-agent", "model", *words, check=False)
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stdout + ran.stderr


def answering(machine: Machine, number: str) -> None:
    """Wait until the running agent answers with a version."""
    wait_until(lambda: ask(machine, NOBODY)["version"] == number, f"the agent does not answer with {number}")


def owners(machine: Machine) -> set[str]:
    return set(machine.shell(f"find {MODELS}/ -printf '%U:%G\\n'").split())


def test_what_root_installs_is_the_service_s(served: Machine) -> None:
    started = served.show(UNIT, "MainPID")
    assert model(served, "list")[1].startswith("genre 1.0.0, bundled, ")
    status, said = model(served, "install", "/root/genre-1.1.0.onnx")
    assert (status, said) == (
        0,
        "genre 1.1.0 is in use, before it 1.0.0; a running agent takes it over by itself\n",
    )
    assert owners(served) == {served.shell("stat -L -c %u:%g /var/lib/edge-agent").strip()}
    answering(served, "1.1.0")
    model(served, "install", "/root/genre-1.2.0.onnx")
    answering(served, "1.2.0")
    assert model(served, "rollback")[0] == 0
    answering(served, "1.1.0")
    assert served.show(UNIT, "MainPID") == started, "the agent was not started again"


def test_the_service_can_replace_what_root_installed(served: Machine) -> None:
    pid = served.show(UNIT, "MainPID")
    uid = served.shell(f"stat -c %u /proc/{pid}").strip()
    assert uid != "0"
    joined = [
        "nsenter",
        "--target",
        pid,
        "--mount",
        "--",
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
    ]
    served.run(*joined, "edge-agent", "model", "use", "1.2.0")
    answering(served, "1.2.0")
    assert model(served, "rollback")[0] == 0
    answering(served, "1.1.0")


def test_it_is_served_after_a_restart(served: Machine) -> None:
    served.run("systemctl", "restart", UNIT)
    wait_online(served)
    assert ask(served, NOBODY)["version"] == "1.1.0"
    assert owners(served) == {served.shell("stat -L -c %u:%g /var/lib/edge-agent").strip()}


def test_check_says_what_is_in_use(served: Machine) -> None:
    ran = served.run("edge-agent", "check", "--json", check=False)
    found = [one["message"] for one in json.loads(ran.stdout)["findings"] if one["what"] == "store"]
    assert found == ["genre: 1.1.0 is in use, before it 1.0.0; 3 kept"]


def test_somebody_else_is_told_in_one_sentence(served: Machine) -> None:
    for words in (["list"], ["rollback"], ["use", "1.2.0"]):
        status, said = model(served, *words, user="pi")
        assert status == 2
        assert "user pi may not enter /var/lib/private" in said
        assert "use sudo" in said
        assert "chmod" not in said
        assert len(said.splitlines()) == 1
    answering(served, "1.1.0")


def test_all_of_it_is_removed(served: Machine) -> None:
    status, said = model(served, "remove", "genre", "--all")
    assert status == 0
    assert said.startswith("removed 3 versions of genre; from now on it is 1.0.0, bundled: ")
    answering(served, "1.0.0")
