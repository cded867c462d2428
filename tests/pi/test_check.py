"""`sudo edge-agent check` on a machine that boots: it finds what only the service meets, as root sees none of it.

For each fault there is the proof that it is one: the service does not come up with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.certificates import Authority
from tests.pi.machine import Machine
from tests.pi.service import CONFIGURATION, UNIT, serve, wait_online
from tests.trusted import ANN

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

BUNDLED = "/usr/lib/python3/dist-packages/edge_agent/models/genre.onnx"
KITCHEN = "/etc/edge-agent/kitchen.toml"


class Seen(NamedTuple):
    """What a check found, and what it ended with."""

    status: int
    findings: list[dict[str, Any]]

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [one for one in self.findings if one["verdict"] == "fail"]

    def of(self, what: str) -> list[str]:
        return [one["verdict"] for one in self.findings if one["what"] == what]


def check(machine: Machine, *arguments: str, user: str = "root") -> Seen:
    ran = machine.run("runuser", "-u", user, "--", "edge-agent", "check", "--json", *arguments, check=False)
    assert "Traceback" not in ran.stderr
    return Seen(ran.returncode, json.loads(ran.stdout)["findings"])


@pytest.fixture(scope="module")
def served(machine: Machine, deb: Path) -> Machine:
    """The service, installed and running with the configuration that it comes with."""
    serve(machine, deb)
    return machine


@contextmanager
def configured(machine: Machine, text: str) -> Iterator[None]:
    """Another configuration, for a service that has been started again."""
    place = machine.directory / CONFIGURATION.lstrip("/")
    before = place.read_text()
    place.write_text(text)
    try:
        yield
    finally:
        place.write_text(before)
        machine.run("systemctl", "restart", UNIT)
        wait_online(machine)


def does_not_come_up(machine: Machine) -> bool:
    """Whether the service, started by hand and once, ends instead of serving."""
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "start", "--no-block", UNIT)
    machine.shell(
        f"until journalctl -b -u {UNIT} -o cat --since -5s | grep -q 'edge-agent: '; do sleep 0.1; done", timeout=30
    )
    machine.run("systemctl", "stop", UNIT)
    return True


def test_a_clean_configuration_is_all_well(served: Machine) -> None:
    seen = check(served)
    assert (seen.status, seen.failures) == (0, [])
    assert seen.of("sandbox") == ["ok"]
    # Whatever the sandbox forbids: models, broker and the running agent were looked at from there.
    for what in ("model", "self-test", "broker", "agent", "service", "writing"):
        assert seen.of(what) == ["ok"], what
    assert served.shell("ls /run/systemd/system").split() == []
    assert "edge-agent-check" not in served.shell("systemctl list-units --all --plain; ls /run")


def test_a_password_file_of_root(served: Machine) -> None:
    served.write("/etc/edge-agent/mqtt-password", "secret\n", mode=0o600)
    with configured(served, '[mqtt]\nusername = "kitchen"\npassword_file = "mqtt-password"\n'):
        seen = check(served)
        (found,) = seen.failures
        assert (seen.status, found["what"]) == (2, "configuration")
        assert found["message"] == (
            "mqtt.password_file: /etc/edge-agent/mqtt-password: the service's user may not read it"
        )
        assert (
            "sudo install -D -m 600 /etc/edge-agent/mqtt-password /etc/credstore/edge-agent.mqtt-password"
            in (found["mend"])
        )
        assert does_not_come_up(served)
        assert check(served).status == 2
        # What it says helps.
        served.shell("install -D -m 600 /etc/edge-agent/mqtt-password /etc/credstore/edge-agent.mqtt-password")
        served.write(CONFIGURATION, '[mqtt]\nusername = "kitchen"\n')
        served.run("systemctl", "restart", UNIT)
        wait_online(served)
        seen = check(served)
        assert (seen.status, seen.failures) == (0, [])
    served.run("rm", "/etc/credstore/edge-agent.mqtt-password")


def test_an_authority_of_root(served: Machine, tmp_path: Path) -> None:
    served.write("/etc/edge-agent/ca.crt", Authority(tmp_path).file.read_text(), mode=0o600)
    with configured(served, '[mqtt.tls]\nca = "ca.crt"\n'):
        seen = check(served)
        (found,) = seen.failures
        assert (seen.status, found["what"]) == (2, "configuration")
        assert found["message"] == "mqtt.tls.ca: /etc/edge-agent/ca.crt: the service's user may not read it"
        assert found["mend"].endswith("sudo chmod a+r /etc/edge-agent/ca.crt")
        assert does_not_come_up(served)


def test_a_public_key_of_root(served: Machine) -> None:
    served.write("/etc/edge-agent/models.pub", ANN.public_key.text, mode=0o600)
    with configured(served, '[update]\nchannel = "stable"\ntrusted_keys = ["models.pub"]\n'):
        seen = check(served)
        assert seen.status == 1
        (found,) = seen.failures
        assert found["what"] == "trust"
        assert found["message"] == (
            "update.trusted_keys: /etc/edge-agent/models.pub: the service's user may not read it"
        )
        assert does_not_come_up(served)
        served.shell(found["mend"].partition(": sudo ")[2])
        served.run("systemctl", "start", UNIT)
        wait_online(served)
        seen = check(served)
        assert (seen.status, seen.of("trust"), seen.of("store")) == (0, ["ok"], [])
        # What is remembered of the channel is the service's business; somebody else has no failure for that.
        assert check(served, user="pi").of("trust") == ["note"]


def test_a_model_in_home(served: Machine) -> None:
    served.shell(f"install -m 644 {BUNDLED} /home/pi/mine.onnx; chmod 755 /home/pi")
    with configured(served, '[[route]]\nmodel = "/home/pi/mine.onnx"\n'):
        seen = check(served)
        (found,) = seen.failures
        assert (seen.status, found["what"]) == (3, "model")
        assert found["message"] == (
            "/home/pi/mine.onnx: the service's user may not enter /home, which its sandbox hides (ProtectHome)"
        )
        assert does_not_come_up(served)
        served.shell(found["mend"].partition("; ")[0].replace("sudo ", ""))
        served.write(CONFIGURATION, '[[route]]\nmodel = "mine"\n')
        assert check(served).of("model") == ["ok"]


def test_a_model_of_root(served: Machine) -> None:
    served.shell(f"install -D -m 600 {BUNDLED} /var/lib/edge-agent/models/hers.onnx")
    with configured(served, '[[route]]\nmodel = "hers"\n'):
        seen = check(served)
        (found,) = seen.failures
        assert (seen.status, found["what"]) == (3, "model")
        assert found["message"] == ("hers: /var/lib/edge-agent/models/hers.onnx: the service's user may not read it")
        assert does_not_come_up(served)
        served.shell(found["mend"].replace("sudo ", ""))
        assert check(served).of("model") == ["ok"]


def test_a_socket_that_the_service_may_not_reach(served: Machine) -> None:
    served.shell("install -d -o mosquitto -g mosquitto -m 0740 /run/closed")
    served.write(
        "/etc/mosquitto/conf.d/socket.conf",
        "listener 1883 127.0.0.1\nlistener 0 /run/closed/mqtt.sock\nallow_anonymous true\n",
    )
    served.run("systemctl", "restart", "mosquitto")
    with configured(served, '[mqtt]\ntransport = "unix"\nsocket = "/run/closed/mqtt.sock"\n'):
        seen = check(served)
        (found,) = [one for one in seen.failures if one["what"] == "broker"]
        assert seen.status == 1
        assert found["message"] == "mqtt.socket: /run/closed/mqtt.sock: the service's user may not enter /run/closed"
        # Then there is the socket itself, which is its group's.
        served.shell("chmod 0755 /run/closed")
        (found,) = [one for one in check(served).failures if one["what"] == "broker"]
        assert found["message"].endswith("the service's user may not write to it")
        served.write(f"/etc/systemd/system/{UNIT}.d/group.conf", "[Service]\nSupplementaryGroups=mosquitto\n")
        served.run("systemctl", "daemon-reload")
        served.run("systemctl", "restart", UNIT)
        wait_online(served)
        seen = check(served)
        assert (seen.status, seen.of("broker")) == (0, ["ok"])
    served.run("rm", "-r", "/etc/mosquitto/conf.d/socket.conf", f"/etc/systemd/system/{UNIT}.d")
    served.run("systemctl", "daemon-reload")
    served.run("systemctl", "restart", "mosquitto")


def test_a_read_rule_that_is_missing(served: Machine) -> None:
    """The rules of docs/security.md, with which the agent's user may write to no input: nothing can be tried."""
    served.shell(
        "touch /etc/mosquitto/passwd; mosquitto_passwd -b /etc/mosquitto/passwd kitchen right; "
        "chown mosquitto /etc/mosquitto/passwd"
    )
    served.write("/etc/credstore/edge-agent.mqtt-password", "right", mode=0o600)
    rules = "pattern readwrite edge/%u/#\nuser kitchen\ntopic write music/+/genre\ntopic write music/+/genre/error\n"
    served.write("/etc/mosquitto/acl", f"{rules}topic read music/+/features\n")
    served.write(
        "/etc/mosquitto/conf.d/login.conf",
        "listener 1883 127.0.0.1\nallow_anonymous false\n"
        "password_file /etc/mosquitto/passwd\nacl_file /etc/mosquitto/acl\n",
    )
    served.run("systemctl", "restart", "mosquitto")
    with configured(served, '[node]\nid = "kitchen"\n[mqtt]\nusername = "kitchen"\n'):
        try:
            served.run("systemctl", "restart", UNIT)
            served.shell(f"until systemctl status {UNIT} | grep -q 'Status: \"serving'; do sleep 0.1; done", timeout=60)
            seen = check(served)
            assert (seen.status, seen.failures, seen.of("rules")) == (0, [], ["ok", "ok"])
            assert seen.of("publish") == ["ok", "ok", "ok"]
            served.write("/etc/mosquitto/acl", rules)
            served.run("systemctl", "reload", "mosquitto")
            seen = check(served)
            (found,) = seen.failures
            assert (seen.status, found["what"]) == (1, "rules")
            assert found["message"] == "/etc/mosquitto/acl: user kitchen may read nothing of music/+/features"
        finally:
            served.run("rm", "/etc/mosquitto/conf.d/login.conf", "/etc/credstore/edge-agent.mqtt-password")
            served.run("systemctl", "restart", "mosquitto")


def test_a_configuration_that_only_root_may_read(served: Machine) -> None:
    served.run("chmod", "600", CONFIGURATION)
    seen = check(served)
    (found,) = seen.failures
    assert (seen.status, found["what"]) == (2, "configuration")
    assert found["mend"].endswith(f"sudo chmod a+r {CONFIGURATION}")
    served.run("chmod", "644", CONFIGURATION)
    assert check(served).status == 0


def test_a_secret_that_others_may_read_is_noted(served: Machine) -> None:
    served.write("/etc/edge-agent/open", "secret\n", mode=0o644)
    with configured(served, '[mqtt]\nusername = "kitchen"\npassword_file = "open"\n'):
        seen = check(served)
        (found,) = [one for one in seen.findings if one["what"] == "secrets"]
        assert (seen.status, found["verdict"]) == (0, "note")
        assert "is open to everybody" in found["message"]


def test_an_instance_is_looked_at_as_itself(served: Machine) -> None:
    """With the credential of its own name; the general one is another."""
    for name, secret in (("edge-agent.mqtt-password", "wrong"), ("edge-agent.kitchen.mqtt-password", "right")):
        served.write(f"/etc/credstore/{name}", secret, mode=0o600)
    served.shell(
        "touch /etc/mosquitto/passwd; mosquitto_passwd -b /etc/mosquitto/passwd cook right; chown mosquitto /etc/mosquitto/passwd"
    )
    served.write(
        "/etc/mosquitto/conf.d/login.conf",
        "per_listener_settings true\nlistener 1883 127.0.0.1\nallow_anonymous true\n"
        "listener 1884 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n",
    )
    served.run("systemctl", "restart", "mosquitto")
    served.write(KITCHEN, '[mqtt]\nusername = "cook"\nport = 1884\n')
    # It does not run: its credentials are there all the same.
    seen = check(served, "--config", KITCHEN)
    assert seen.of("broker") == ["ok"]
    # Also to who stands in that directory.
    told = served.shell("cd /etc/edge-agent && edge-agent check --json --config kitchen.toml", check=False)
    assert [one["what"] for one in json.loads(told)["findings"]] == [one["what"] for one in seen.findings]
    (service,) = seen.failures
    assert service["mend"] == "sudo systemctl enable --now edge-agent@kitchen"
    served.run("rm", KITCHEN, "/etc/mosquitto/conf.d/login.conf", "/etc/credstore/edge-agent.mqtt-password")
    served.run("systemctl", "restart", "mosquitto")


@pytest.mark.parametrize(
    ("added", "verdict", "says"),
    [
        ("DynamicUser=no\nUser=root", "ok", "what follows is checked as edge-agent"),
        ("BindReadOnlyPaths=/nowhere", "fail", "226/NAMESPACE"),
        ("LoadCredential=mqtt-password:/nowhere", "fail", "243/CREDENTIALS"),
        ('ExecStart=\nExecStart=/bin/sh -c "exec edge-agent run"', "note", "does not run the agent itself"),
    ],
)
def test_a_unit_that_can_t_be_looked_from(served: Machine, added: str, verdict: str, says: str) -> None:
    served.run("systemctl", "stop", UNIT)
    served.write(f"/etc/systemd/system/{UNIT}.d/added.conf", f"[Service]\n{added}\n")
    served.run("systemctl", "daemon-reload")
    seen = check(served)
    (found,) = [one for one in seen.findings if one["what"] == "sandbox"]
    assert (found["verdict"], says in found["message"]) == (verdict, True), found
    assert seen.of("user") == (["note"] if "User=root" in added else [])
    # The rest is looked at all the same.
    assert seen.of("model") == seen.of("broker") == ["ok"]
    served.run("rm", "-r", f"/etc/systemd/system/{UNIT}.d")
    served.run("systemctl", "daemon-reload")
    served.run("systemctl", "start", UNIT)
    wait_online(served)


def test_others_than_root_see_what_they_may(served: Machine) -> None:
    """`/var/lib/private` is root's where the service has run."""
    seen = check(served, user="pi")
    assert seen.status == 0
    (found,) = [one for one in seen.findings if one["what"] == "sandbox"]
    assert (found["verdict"], found["mend"]) == ("note", "sudo edge-agent check")
    ran = served.run("runuser", "-u", "pi", "--", "edge-agent", "try", check=False)
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False)
