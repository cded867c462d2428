"""Where the broker is and how to log in: options before the configuration, and a password that no command line shows."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from edge_deploy.broker import Login
from edge_deploy.cli import DURATION, main
from edge_deploy.events import Event, Lines
from edge_deploy.options import login

from edge_agent.errors import EdgeAgentError
from tests.unit.deploy.releases import write_release

WORDS = "a secret"
VARIABLE = "EDGE_DEPLOY_PASSWORD"


def read(*words: str, **environment: str) -> Login:
    """What a command gets for these options."""
    found: list[Login] = []

    @click.command()
    @login
    def command(login: Login) -> None:
        found.append(login)

    done = CliRunner().invoke(command, words, env={VARIABLE: None, **environment})
    if isinstance(done.exception, EdgeAgentError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return found[0]


def test_without_any_it_is_this_machine() -> None:
    assert read() == Login("localhost", 1883)


@pytest.mark.parametrize(
    ("words", "port"),
    [
        (["--tls"], 8883),
        (["--transport", "websockets"], 80),
        (["--transport", "websockets", "--tls"], 443),
        (["--tls", "--port", "1"], 1),
    ],
)
def test_standard_ports(words: list[str], port: int) -> None:
    assert read(*words).port == port


def test_the_configuration_of_an_agent_and_options_before_it(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(f"{WORDS}\r\n")
    file = tmp_path / "edge-agent.toml"
    file.write_text(
        f'[node]\nid = "x"\n[mqtt]\nhost = "broker.lan"\nusername = "ann"\npassword_file = "{password}"\nkeepalive = 10\n'
        f'[mqtt.tls]\nca = "{password}"\nalpn = ["mqtt"]\n'
    )
    found = read("--config", str(file))
    assert found == Login("broker.lan", 8883, username="ann", password=WORDS, tls=True, ca=password, alpn=("mqtt",))
    assert read("--config", str(file), "--host", "other", "--port", "9").host == "other"
    assert read("--config", str(file), EDGE_AGENT_MQTT__HOST="from-the-environment").host == "from-the-environment"


def test_a_password_from_the_environment() -> None:
    assert read("--username", "ann", **{VARIABLE: WORDS}).password == WORDS
    with pytest.raises(
        EdgeAgentError, match=r"^EDGE_DEPLOY_PASSWORD: a password needs a name to log in with; set --username"
    ):
        read(**{VARIABLE: WORDS})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[mqtt", "not TOML"),
        (b"\xff", "not TOML"),
        (b'[mqtt]\nport = "many"', "mqtt.port"),
        (b"[mqtt]\nport = 70000", "mqtt.port"),
        (b'[mqtt]\ntransport = "pigeon"', "mqtt.transport"),
        (b'[mqtt.tls]\ncertificate = "/x"', "certificate and key must be set together"),
        (b'[mqtt]\nusername = "ann"\npassword_file = "/nowhere"', "/nowhere: No such file"),
    ],
)
def test_a_configuration_that_can_t_be(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "edge-agent.toml"
    file.write_bytes(content)
    with pytest.raises(EdgeAgentError, match=words):
        read("--config", str(file))


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600), ("90", 90), ("1.5h", 5400), ("0", 0), ("2d", 172_800)])
def test_times(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1s", "nan", "inf", "31d", "\x1b[2J"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        DURATION.convert(text, None, None)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "command", [["push", "MODEL"], ["rollout", "MODEL"], ["take-back", "MODEL"], ["status"], ["prune"]]
)
@pytest.mark.parametrize("channel", ["a/b#", "+", "", "a\n", "\x1b[2J", "-", "x" * 70_000])
def test_a_channel_that_can_t_be_is_refused_in_words(tmp_path: Path, command: list[str], channel: str) -> None:
    model = str(write_release(tmp_path))
    words = [model if word == "MODEL" else word for word in command]
    done = CliRunner().invoke(main, [*words, f"--channel={channel}"])
    assert done.exit_code == 2, done.output
    assert "is no channel: one word of letters, digits, '.', '_' and '-'" in done.output
    assert len(done.output) < 1000
    assert "\x1b" not in done.output


def test_half_a_pair_of_certificate_and_key() -> None:
    with pytest.raises(EdgeAgentError) as caught:
        read("--certificate", "x.pem")
    assert str(caught.value) == "options: certificate and key must be set together (--certificate, --key)"


def test_a_name_or_password_that_mqtt_can_t_carry() -> None:
    with pytest.raises(EdgeAgentError, match="--username: longer than the 65535 bytes"):
        read("--username", "é" * 40_000)
    with pytest.raises(EdgeAgentError, match="the password: longer than the 65535 bytes"):
        read("--username", "ann", **{VARIABLE: "x" * 70_000})
    with pytest.raises(EdgeAgentError, match="--username: not UTF-8 text"):
        read("--username", "\udcff")
    assert read("--username", "x" * 65_535).username == "x" * 65_535


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["push", "nowhere.onnx"], 2, "make it with edge-convert sign"),
        (["push", "MODEL", "--channel", "beta"], 2, "signed for the channel 'stable', not 'beta'"),
        (["push", "MODEL", "--wave", "a b"], 2, "write ids of nodes"),
        (["rollout", "MODEL", "--waves", "0"], 2, "a number of nodes is 1 to 200"),
        (["rollout", "MODEL", "--pause", "soon"], 2, "is no time"),
        (["rollout", "MODEL", "--password", "x"], 2, "No such option"),
        (["prune"], 2, "Missing option '--channel'"),
    ],
)
def test_one_line_for_everything_that_is_wrong(tmp_path: Path, words: list[str], status: int, said: str) -> None:
    model = str(write_release(tmp_path))
    done = CliRunner().invoke(main, [model if word == "MODEL" else word for word in words])
    assert done.exit_code == status
    assert said in done.output


def test_on_a_terminal_progress_is_one_line_and_elsewhere_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    for terminal, wanted in ((True, "\r\x1b[K"), (False, "")):
        lines = Lines(lambda: now, terminal=terminal)
        for number in range(3):
            lines(Event("progress", f"{number} committed", {}, passing=True))
        lines(Event("done", "done", {}))
        said = capsys.readouterr().out
        assert said.count(wanted) if wanted else said == "0 committed\ndone\n"
        assert said.endswith("done\n")
