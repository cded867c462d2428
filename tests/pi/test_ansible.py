"""The role of deploy/ansible, over ssh, on a Debian 13 that boots: installed, left alone, reloaded, refused.

The tests are one story, in this order, on one machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import edge_agent
from edge_agent.contract.seal import LENGTH, seal
from tests.contract.client import Client
from tests.documents import ROOT
from tests.e2e.tracks import ROCK
from tests.pi.conftest import BROKER, STANDS_ON
from tests.pi.machine import Machine, booted, wait_until
from tests.pi.service import CONFIGURATION, UNIT, Login, ask, set_password, wait_online
from tests.pi.workstation import DEPLOY, LOGS_IN, Workstation, environment, program
from tests.trusted import ANN, CHANNEL, EVE, signed
from tests.versions import version

pytestmark = [pytest.mark.pi, pytest.mark.timeout(900)]

PASSWORD = "correct horse battery staple"  # noqa: S105 - of a broker that lives as long as the test
ANOTHER = "tr0ub4dor & 3"
TESTER = Login("tester", PASSWORD)
BUNDLED = Path(edge_agent.__file__).parent / "models/genre.onnx"
LOG_IN = '[mqtt]\nusername = "edge-agent"\n'
ELSEWHERE = f'{LOG_IN}\n[[route]]\nsubscribe = "music/{{sensor}}/features"\npublish = "hall/{{sensor}}/genre"\n'


@pytest.fixture(scope="module")
def machine(deb: Path) -> Iterator[Machine]:
    """One whose broker asks for a password, and whose apt has nowhere to go: there is no network."""
    with booted(*BROKER, *STANDS_ON, *LOGS_IN) as machine:
        machine.shell("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
        set_password(machine, "tester", PASSWORD)
        set_password(machine, "edge-agent", PASSWORD)
        machine.write(
            "/etc/mosquitto/conf.d/login.conf",
            "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n",
        )
        machine.run("systemctl", "enable", "mosquitto")
        machine.run("systemctl", "restart", "mosquitto")
        yield machine


@pytest.fixture(scope="module")
def workstation(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Workstation:
    return Workstation(machine, tmp_path_factory.mktemp("workstation"))


@pytest.fixture
def variables(deb: Path) -> dict[str, Any]:
    """What the first test sets up; the others change one of it."""
    return {"deb": str(deb), "configuration": LOG_IN, "password": PASSWORD}


def label_on(machine: Machine, topic: str) -> object:
    with machine.network(), Client(1883, username=TESTER.username, password=TESTER.password) as client:
        client.subscribe(topic)
        client.publish("music/hall/features", json.dumps(ROCK), qos=1)
        return client.json(topic, 30)["label"]


def serves(machine: Machine, number: str) -> bool:
    return ask(machine, TESTER)["version"] == number


def state(machine: Machine) -> tuple[str, str, str]:
    """What a play that fails must not have touched."""
    models = "ls -l --time-style=full-iso /var/lib/edge-agent/models 2>&1 || true"
    return machine.show(UNIT, "MainPID"), machine.run("cat", CONFIGURATION).stdout, machine.shell(models)


def test_the_role_is_up_to_ansible_s_own_standard(tmp_path: Path) -> None:
    linted = subprocess.run(
        [program("ansible-lint"), "--offline", "--strict", "--profile", "production", "--project-dir", "."],
        cwd=DEPLOY,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_first_run_installs_configures_and_starts(
    machine: Machine, workstation: Workstation, variables: dict[str, Any]
) -> None:
    play = workstation.play("--diff", **variables).fine()
    assert play.changed >= 4
    assert PASSWORD not in play.printed
    wait_online(machine, TESTER)
    assert machine.show(UNIT, "UnitFileState") == "enabled"
    # It has not been on the broker before it had its configuration and its password.
    assert "refused" not in machine.journal(UNIT)
    assert machine.shell("stat --format '%a %U' /etc/credstore /etc/credstore/*").split("\n")[:2] == [
        "700 root",
        "600 root",
    ]
    assert ask(machine, TESTER)["label"] == "Rock"


def test_the_second_run_changes_nothing(machine: Machine, workstation: Workstation, variables: dict[str, Any]) -> None:
    before = state(machine)
    assert workstation.play(**variables).fine().changed == 0
    assert workstation.play("--check", **variables).fine().changed == 0
    # Whatever the version, when it is not said which: it comes from apt then.
    assert workstation.play(**{**variables, "deb": ""}).fine().changed == 0
    assert state(machine) == before


def test_another_configuration_is_taken_up_by_the_running_agent(
    machine: Machine, workstation: Workstation, variables: dict[str, Any]
) -> None:
    pid = machine.show(UNIT, "MainPID")
    workstation.play(**{**variables, "configuration": ELSEWHERE}).fine()
    assert label_on(machine, "hall/hall/genre") == "Rock"
    assert machine.show(UNIT, "MainPID") == pid


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param(LOG_IN.replace("username", "usernam"), "usernam", id="unknown-key"),
        pytest.param(LOG_IN + '[[route]]\nmodel = "tunes"\n', "model 'tunes': no such file", id="no-model"),
        pytest.param(LOG_IN + '[[route]]\nfields = { beat = "bpm" }\n', "no such feature", id="no-feature"),
    ],
)
def test_a_broken_configuration_fails_the_play_and_not_the_agent(
    machine: Machine, workstation: Workstation, variables: dict[str, Any], broken: str, said: str
) -> None:
    before = state(machine)
    play = workstation.play(**{**variables, "configuration": broken})
    assert play.status != 0
    assert "failed to validate" in play.printed
    assert said in play.printed
    assert state(machine) == before
    assert label_on(machine, "hall/hall/genre") == "Rock"


def test_a_model_of_ones_own_is_served(
    machine: Machine, workstation: Workstation, variables: dict[str, Any], tmp_path: Path
) -> None:
    model = tmp_path / "tunes.onnx"
    shutil.copy(BUNDLED, model)
    chosen = {**variables, "models": [str(model)], "configuration": f'{ELSEWHERE}model = "tunes"\n'}
    pid = machine.show(UNIT, "MainPID")
    workstation.play(**chosen).fine()
    assert label_on(machine, "hall/hall/genre") == "Rock"
    assert machine.show(UNIT, "MainPID") == pid
    served = [line for line in machine.journal(UNIT).splitlines() if "self-test passed" in line]
    assert "/var/lib/edge-agent/models/tunes.onnx" in served[-1]
    assert workstation.play(**chosen).fine().changed == 0
    # After a start from nothing, the directory is the service's own again; that is no change of ours.
    machine.run("systemctl", "restart", UNIT)
    assert workstation.play(**chosen).fine().changed == 0


def test_a_model_is_taken_up_although_the_configuration_is_refused(
    machine: Machine, workstation: Workstation, variables: dict[str, Any], tmp_path: Path
) -> None:
    model = tmp_path / "tunes.onnx"
    # The same trees in another file: the doc_string of ONNX's ModelProto, field 6, four bytes.
    model.write_bytes(seal(BUNDLED.read_bytes()[:-LENGTH] + b"\x32\x04same"))
    play = workstation.play(**{**variables, "models": [str(model)], "configuration": "[mqtt"})
    assert play.status != 0
    assert "not valid TOML" in play.printed
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    with machine.network(), Client(1883, username=TESTER.username, password=TESTER.password) as client:
        client.subscribe(f"edge/{machine.name}/info")
        client.wait_for(lambda message: sha256 in message.payload.decode(), 30)


def test_a_broken_model_is_not_installed(
    machine: Machine, workstation: Workstation, variables: dict[str, Any], tmp_path: Path
) -> None:
    model = tmp_path / "tunes.onnx"
    model.write_bytes(BUNDLED.read_bytes()[:-1000])
    before = state(machine)
    play = workstation.play(**{**variables, "models": [str(model)], "configuration": ELSEWHERE})
    assert play.status != 0
    assert "onnxruntime can't open this as a model" in play.printed
    assert state(machine) == before
    assert label_on(machine, "hall/hall/genre") == "Rock"


def test_another_password_is_taken_up(machine: Machine, workstation: Workstation, variables: dict[str, Any]) -> None:
    set_password(machine, "edge-agent", ANOTHER)
    machine.run("systemctl", "restart", "mosquitto")
    pid = machine.show(UNIT, "MainPID")
    workstation.play(**{**variables, "password": ANOTHER}).fine()
    assert machine.show(UNIT, "MainPID") not in {pid, "0"}
    assert ask(machine, TESTER)["label"] == "Rock"


def test_passwords_come_from_the_vault(
    machine: Machine, workstation: Workstation, variables: dict[str, Any], tmp_path: Path
) -> None:
    """As docs/ansible.md has it: the file in group_vars of the clone takes them from there."""
    (table,) = re.findall(
        r"^```yaml\n(vault_\w+):\n  kitchen: ", (ROOT / "docs" / "ansible.md").read_text(), re.MULTILINE
    )
    key, vault = tmp_path / "key", tmp_path / "vault.yml"
    key.write_text("of the vault\n")
    vault.write_text(json.dumps({table: {machine.name: ANOTHER}}))
    subprocess.run(
        [program("ansible-vault"), "encrypt", "--vault-password-file", key, vault],
        env=environment(tmp_path),
        check=True,
        capture_output=True,
    )
    assert ANOTHER not in vault.read_text()
    chosen = {name: value for name, value in variables.items() if name != "password"}
    play = workstation.play("-e", f"@{vault}", "--vault-password-file", str(key), **chosen).fine()
    assert ANOTHER not in play.printed
    # It has that one already.
    assert machine.run("cat", "/etc/credstore/edge-agent.mqtt-password").stdout == ANOTHER
    assert ask(machine, TESTER)["label"] == "Rock"


def test_every_section_of_settings_can_be_given(
    machine: Machine, workstation: Workstation, variables: dict[str, Any]
) -> None:
    """All from [models] on, as the commented configuration shows them, which holds every setting; with some that do something."""
    shown = (ROOT / "deploy" / "edge-agent.toml").read_text()
    sections = re.sub(r"^# (?=[a-z_]+ = )", "", shown[shown.index("\n[models]") :], flags=re.MULTILINE)
    for default, chosen in (
        ('channel = ""', f'channel = "{CHANNEL}"'),
        ("trusted_keys = []", f'trusted_keys = ["{ANN.public_key.text}"]'),
        ("enabled = false", "enabled = true"),
        ('textfile = ""', 'textfile = "edge-agent.prom"'),
        ("explained_rows = 100", "explained_rows = 1"),
    ):
        assert default in sections
        sections = sections.replace(default, chosen, 1)
    route = '[[route]]\nexplain = "path"\nexplain_requests = false\n'
    workstation.play(**{**variables, "password": ANOTHER, "configuration": f"{LOG_IN}{route}{sections}"}).fine()
    assert "explanation" in ask(machine, TESTER)
    with machine.network(), Client(1883, username=TESTER.username, password=TESTER.password) as client:
        client.subscribe(f"edge/{machine.name}/docs", "homeassistant/device/+/config")
        client.message(f"edge/{machine.name}/docs", 30)
        client.wait_for(lambda message: message.topic.startswith("homeassistant/"), 30)


def test_signed_models_are_served_where_signatures_are_required(
    machine: Machine, workstation: Workstation, variables: dict[str, Any], tmp_path: Path
) -> None:
    model, signature = tmp_path / "tunes.onnx", tmp_path / "tunes.onnx.minisig"
    required = f'[update]\ntrusted_keys = ["{ANN.public_key.text}"]\n[models]\nrequire_signature = true\n'
    chosen = {
        **variables,
        "password": ANOTHER,
        "models": [str(model)],
        "signatures": [str(signature)],
        "configuration": f'{LOG_IN}{required}[[route]]\nmodel = "tunes"\n',
    }
    # The second one while signatures are required already.
    for number in ("1.1.0", "1.2.0"):
        model.write_bytes(version(number))
        signature.write_text(signed(model.read_bytes(), ANN))
        workstation.play(**chosen).fine()
        wait_until(partial(serves, machine, number), f"{number} is not served")
    assert workstation.play(**chosen).fine().changed == 0
    before = state(machine)
    # Somebody else's model, and one that was not signed again: neither of them is installed, nor its signature.
    for number, signature_on, key, said in (
        ("1.3.0", "1.3.0", EVE, "which is not trusted here"),
        ("1.4.0", "1.2.0", ANN, "the signature does not match the content"),
    ):
        model.write_bytes(version(number))
        signature.write_text(signed(version(signature_on), key))
        play = workstation.play(**chosen)
        assert play.status != 0
        # Ansible breaks long lines, as YAML allows.
        assert re.search(r"[\s\\]+".join(said.split()), play.printed), play.printed[-3000:]
        assert state(machine) == before
    machine.run("systemctl", "restart", UNIT)
    wait_until(partial(serves, machine, "1.2.0"), "1.2.0 is not served")


def test_a_broker_that_does_not_let_it_in_fails_the_play(workstation: Workstation, variables: dict[str, Any]) -> None:
    play = workstation.play(**{**variables, "password": "wrong"})
    assert play.status != 0
    assert "FAIL  broker" in play.printed
