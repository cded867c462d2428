"""One file, the environment over it, and one line about whatever is wrong with either."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.load import load
from edge_agent.config.settings import Settings
from edge_agent.errors import SettingsError

SECRET = "hunter2-do-not-show"  # noqa: S105 - nobody's


def write(directory: Path, text: str) -> Path:
    file = directory / "edge-agent.toml"
    file.write_text(text)
    return file


def refusal(directory: Path, text: str = "") -> str:
    """The one line about a file (and the environment) that is refused."""
    with pytest.raises(SettingsError) as raised:
        load(write(directory, text))
    message = str(raised.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


def test_the_defaults(tmp_path: Path) -> None:
    settings = load(write(tmp_path, ""))
    assert (settings.mqtt.host, settings.mqtt.actual_port, settings.mqtt.protocol) == ("localhost", 1883, "auto")
    assert settings.mqtt.password() is None
    (route,) = settings.routes()
    assert (route.model, route.subscribe.text) == ("genre", "music/{sensor}/features")
    assert (route.publish.text, route.errors.text) == ("music/{sensor}/genre", "music/{sensor}/genre/error")
    assert settings.node.id
    assert "/" not in settings.node.id


def test_every_key_of_the_file(tmp_path: Path) -> None:
    settings = load(
        write(
            tmp_path,
            """
            [node]
            id = "kitchen"
            [mqtt]
            host = "broker"
            port = 1884
            protocol = "3.1.1"
            client_id = "me"
            username = "ann"
            password_file = "/secret"
            keepalive = 60
            session_expiry = 0
            receive_maximum = 10
            retain = false
            response_topics = ["answers/#"]
            connect_timeout = 1.5
            max_backoff = 5
            [mqtt.tls]
            enabled = false
            ca = "/ca"
            certificate = "/certificate"
            key = "/key"
            alpn = ["mqtt"]
            [models]
            directory = "/models"
            [limits]
            payload_bytes = 1000
            batch_rows = 5
            answer_bytes = 5000
            [health]
            interval = 5
            [log]
            level = "debug"
            [[route]]
            model = "a"
            subscribe = "in/{x}"
            publish = "out/{x}"
            errors = "bad/{x}"
            [[route]]
            """,
        )
    )
    assert settings.node.id == "kitchen"
    assert settings.mqtt.model_dump(exclude={"tls"}) == {
        "host": "broker", "port": 1884, "transport": "tcp", "path": "/mqtt", "socket": None, "protocol": "3.1.1",
        "client_id": "me", "username": "ann", "password_file": Path("/secret"), "keepalive": 60, "session_expiry": 0, "receive_maximum": 10, "retain": False,
        "response_topics": ("answers/#",), "connect_timeout": 1.5, "max_backoff": 5.0,
    }  # fmt: skip
    assert settings.mqtt.tls is not None
    assert settings.mqtt.tls.ca == Path("/ca")
    assert settings.mqtt.tls.alpn == ("mqtt",)
    assert settings.models.directory == Path("/models")
    assert (settings.limits.payload_bytes, settings.limits.batch_rows, settings.limits.answer_bytes) == (1000, 5, 5000)
    assert (settings.health.interval, settings.log.level) == (5.0, "debug")
    assert [route.model for route in settings.routes()] == ["a", "genre"]
    assert settings.routes()[0].errors.text == "bad/{x}"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, '[mqtt]\nhost = "file"\nport = 1\n[node]\nid = "file"\n')
    monkeypatch.setenv("EDGE_AGENT_MQTT__HOST", "environment")
    monkeypatch.setenv("EDGE_AGENT_MQTT__PROTOCOL", "5")
    monkeypatch.setenv("EDGE_AGENT_MQTT__CLIENT_ID", "007")
    monkeypatch.setenv("EDGE_AGENT_NODE__ID", "42")
    monkeypatch.setenv("EDGE_AGENT_ROUTE", '[{"model": "other"}]')
    settings = load(file)
    # Key by key: what the environment does not say stays as the file has it.
    assert (settings.mqtt.host, settings.mqtt.port) == ("environment", 1)
    # What looks like a number is text where text is asked for.
    assert (settings.mqtt.protocol, settings.mqtt.client_id, settings.node.id) == ("5", "007", "42")
    assert [route.model for route in settings.routes()] == ["other"]


def test_tls_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_MQTT__TLS__CA", "/ca.pem")
    mqtt = load(write(tmp_path, "")).mqtt
    assert mqtt.uses_tls
    assert mqtt.actual_port == 8883


def test_tls_is_on_with_any_key_and_off_when_it_says_so(tmp_path: Path) -> None:
    assert load(write(tmp_path, "[mqtt.tls]\n")).mqtt.actual_port == 8883
    assert load(write(tmp_path, "[mqtt.tls]\nenabled = false\n")).mqtt.actual_port == 1883
    assert load(write(tmp_path, "[mqtt]\nport = 5\n[mqtt.tls]\n")).mqtt.actual_port == 5
    assert "certificate and key must be set together" in refusal(tmp_path, '[mqtt.tls]\nkey = "k"\n')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hots = 1", "hots is not a setting"),
        ('[mqtt]\nhots = "x"', "mqtt.hots is not a setting; did you mean 'host'?"),
        ('[mqqt]\nhost = "x"', "mqqt is not a setting; did you mean 'mqtt'?"),
        ("[mqtt.tls]\ncaa = 1", "mqtt.tls.caa is not a setting; did you mean 'ca'?"),
        ('[[route]]\nsubscrbe = "x"', "route.1.subscrbe is not a setting; did you mean 'subscribe'?"),
        ('[node]\nzzz = "x"', "node.zzz is not a setting; valid here: id"),
        (f'[mqtt]\npassword = "{SECRET}"', "mqtt.password is not a setting; did you mean 'password_file'?"),
        ("[mqtt]\nport = 0", "mqtt.port: Input should be greater than or equal to 1"),
        (f'[mqtt]\nport = "{SECRET}"', "mqtt.port: Input should be a valid integer"),
        ('[mqtt]\nprotocol = "4"', "mqtt.protocol: Input should be 'auto', '5' or '3.1.1'"),
        ('[mqtt]\nhost = ""', "mqtt.host: String should have at least 1"),
        ('[mqtt]\nclient_id = ""', "mqtt.client_id: String should have at least 1 character"),
        ('[mqtt]\nretain = "never"', "mqtt.retain"),
        ("[mqtt]\nkeepalive = 0", "mqtt.keepalive"),
        ("[mqtt]\nport = 0\nkeepalive = 0", "(and 1 more)"),
        ('[mqtt]\npassword_file = "x"', "mqtt: password_file needs a username"),
        ('[node]\nid = "a/b"', "node.id: write one word of letters"),
        ('[node]\nid = "+"', "node.id: write one word of letters"),
        ("route = []", "route: Tuple should have at least 1"),
        ('[route]\nmodel = "x"', "route: write [[route]] with double brackets"),
        ('[[route]]\nmodel = ""', "route.1.model: String should have at least 1"),
        ('[log]\nlevel = "loud"', "log.level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("[limits]\nbatch_rows = 0", "limits.batch_rows"),
        ("[health]\ninterval = 0.5", "health.interval"),
        ("[health]\ninterval = nan", "health.interval"),
        ("[mqtt]\nconnect_timeout = inf", "mqtt.connect_timeout"),
        ("mqtt = 5", "mqtt: not a table; write its settings below [mqtt]"),
        ("[[mqtt]]", "mqtt: not a table; write its settings below [mqtt]"),
        ("[[mqtt.tls]]", "mqtt.tls: not a table; write its settings below [mqtt.tls]"),
        ("[mqtt]\ntls = true", "mqtt.tls: not a table; write its settings below [mqtt.tls]"),
        ("models = 3", "models: not a table; write its settings below [models]"),
        ("route = [5]", "route.1: not a table; write its settings below [[route]]"),
        ("[mqtt", "not valid TOML"),
        ("[mqtt]\nhost = 'a'\nhost = 'b'", "not valid TOML"),
        ("[mqtt]\nhost = broker", "Invalid value (at line 2, column 8); write text in double quotes"),
        # One thing that is wrong, not two: the list of routes is not too short.
        ('[[route]]\nfields = { tempo = "" }', "tempo: '' leads nowhere; write for example \"audio.bpm\"$"),
        (
            '[[route]]\nsubscribe = "a/{x}"',
            "topic 'music/{sensor}/genre' (the default of publish: set it): {sensor} does",
        ),
    ],
)
def test_what_is_wrong_in_the_file(tmp_path: Path, text: str, says: str) -> None:
    message = refusal(tmp_path, text)
    assert says in f"{message}$"
    assert message.startswith(f"{tmp_path / 'edge-agent.toml'}: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('transport = "unix"', 'mqtt: socket and transport = "unix" must be set together'),
        ('socket = "/run/mqtt.sock"', 'mqtt: socket and transport = "unix" must be set together'),
        ('transport = "unix"\nsocket = "s"\n[mqtt.tls]', 'mqtt: transport = "unix" does not use TLS'),
        (
            f'transport = "unix"\nsocket = "/{"s" * 107}"',
            "mqtt: socket: the path is longer than Linux allows (107 bytes)",
        ),
        ('path = "mqtt"', "mqtt.path: String should match"),
        ('path = "/mqtt HTTP/1.1\\r\\nX: y"', "mqtt.path: String should match"),
        (f'host = "mqtt://ann:{SECRET}@broker"', "mqtt.host: write only the host name, without mqtt://"),
        (f'host = "ann:{SECRET}@broker"', "mqtt.host: write only the host name"),
        (
            'host = "broker:1883"',
            "mqtt.host: write only the host name, without mqtt://; port, username and path are separate settings",
        ),
        ('host = "[::1]"', "mqtt.host: write only the host name"),
        ('host = "broker\\r\\nX: y"', "mqtt.host: write only the host name"),
        ('tls = { alpn = [""] }', "mqtt.tls.alpn.1: String should match"),
    ],
)
def test_transports_that_can_not_be(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, f"[mqtt]\n{text}\n")


@pytest.mark.parametrize(
    "host", ["broker", "broker.lan", "192.0.2.1", "::1", "fe80::1%eth0", "_x.local", "bücher.example"]
)
def test_hosts(tmp_path: Path, host: str) -> None:
    assert load(write(tmp_path, f'[mqtt]\nhost = "{host}"\n')).mqtt.host == host


@pytest.mark.parametrize(("tls", "port"), [("", 80), ("[mqtt.tls]", 443)])
def test_websockets_have_the_ports_of_http(tmp_path: Path, tls: str, port: int) -> None:
    settings = load(write(tmp_path, f'[mqtt]\ntransport = "websockets"\n{tls}\n'))
    assert (settings.mqtt.actual_port, settings.mqtt.path) == (port, "/mqtt")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EDGE_AGENT_TYPO", SECRET, "EDGE_AGENT_TYPO is not a setting; valid here: node, mqtt"),
        ("EDGE_AGENT_MQTT_PORT", SECRET, "not a setting; did you mean EDGE_AGENT_MQTT__PORT, with two underscores?"),
        (
            "EDGE_AGENT_ROUTE",
            '[{"subscribe": "a", "publish": "a"}]',
            "route 1: what it publishes on 'a' would come back",
        ),
        ("EDGE_AGENT_MQQT__HOST", SECRET, "EDGE_AGENT_MQQT__HOST is not a setting; did you mean 'mqtt'?"),
        ("EDGE_AGENT_MQTT__HOTS", SECRET, "mqtt.hots is not a setting; did you mean 'host'?"),
        ("EDGE_AGENT_MQTT__PASSWORD", SECRET, "mqtt.password is not a setting; did you mean 'password_file'?"),
        ("EDGE_AGENT_MQTT__PORT", SECRET, "mqtt.port: Input should be a valid integer"),
        ("EDGE_AGENT_MQTT__TLS", SECRET, "mqtt.tls: not a table"),
        ("EDGE_AGENT_MQTT__TLS__CAA", SECRET, "mqtt.tls.caa is not a setting; did you mean 'ca'?"),
        ("EDGE_AGENT_MQTT", f'{{"password": "{SECRET}"', 'error parsing value for field "mqtt"'),
        ("EDGE_AGENT_ROUTE", SECRET, 'error parsing value for field "route"'),
        ("EDGE_AGENT_ROUTE", '{"model": "x"}', "write [[route]] with double brackets"),
        ("EDGE_AGENT_", SECRET, "EDGE_AGENT_ is not a setting"),
    ],
)
def test_what_is_wrong_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    message = refusal(tmp_path)
    assert says in message
    assert message.startswith("environment: ")


def test_the_one_at_fault_is_named_where_there_are_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "edge-agent.toml"
    monkeypatch.setenv("EDGE_AGENT_NODE__ID", "kitchen")
    assert refusal(tmp_path, "[mqtt]\nport = 0").startswith(f"{file}: mqtt.port")
    monkeypatch.setenv("EDGE_AGENT_MQTT__PORT", "0")
    assert refusal(tmp_path, "[mqtt]\nport = 1").startswith("environment: mqtt.port")
    # Of what does not go together, either may be meant.
    monkeypatch.setenv("EDGE_AGENT_MQTT__PORT", "1")
    assert refusal(tmp_path, '[mqtt]\npassword_file = "x"').startswith(f"{file} or environment: mqtt: password_file")


def test_a_file_that_begins_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    file.write_bytes(b'\xef\xbb\xbf[mqtt]\nhost = "b\xc3\xbccher.example"\n')
    assert load(file).mqtt.host == "bücher.example"


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file; leave --config out"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(SettingsError, match="Is a directory, not a file"):
        load(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load(binary)


def test_text_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_ROUTE", '[{"subscribe": "\\ud800"}]')
    assert "text that can't be encoded as UTF-8" in refusal(tmp_path)


def test_relative_paths_in_the_file_are_relative_to_the_file(tmp_path: Path) -> None:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "password").write_text(SECRET)
    settings = load(
        write(
            directory,
            """
            [mqtt]
            username = "ann"
            password_file = "password"
            transport = "unix"
            socket = "mqtt.sock"
            [mqtt.tls]
            enabled = false
            ca = "ca.pem"
            certificate = "/abs/certificate.pem"
            key = "key.pem"
            [models]
            directory = "models"
            [[route]]
            model = "mine/genre.onnx"
            [[route]]
            subscribe = "a"
            publish = "b"
            model = "/abs/genre.onnx"
            [[route]]
            subscribe = "c"
            publish = "d"
            model = "genre"
            """,
        )
    )
    assert settings.mqtt.password() == SECRET
    assert settings.mqtt.socket == directory / "mqtt.sock"
    assert settings.mqtt.tls is not None
    assert settings.mqtt.tls.ca == directory / "ca.pem"
    assert settings.mqtt.tls.certificate == Path("/abs/certificate.pem")
    assert settings.mqtt.tls.key == directory / "key.pem"
    assert settings.models.directory == directory / "models"
    assert [one.model for one in settings.routes()] == [
        str(directory / "mine/genre.onnx"),
        "/abs/genre.onnx",
        "genre",
    ]


def test_relative_paths_in_the_environment_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_ROUTE", '[{"model": "mine.onnx"}]')
    assert load(write(tmp_path, "")).routes()[0].model == "mine.onnx"


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.mqtt.host = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("edge-agent.toml", "{host}"),
        ("kitchen.toml", "{host}-kitchen"),
        ("first floor.toml", "{host}-first-floor"),
        (f"{'x' * 80}.toml", f"{{host}}-{'x' * 31}"),
    ],
)
def test_agents_on_one_machine_have_ids_of_their_own(tmp_path: Path, file: str, expected: str) -> None:
    host = load(write(tmp_path, "")).node.id
    path = tmp_path / file
    path.write_text("")
    assert load(path).node.id == expected.format(host=host[:32])


def test_a_node_id_that_is_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kitchen.toml"
    path.write_text('[node]\nid = "set"\n')
    assert load(path).node.id == "set"
    path.write_text("")
    monkeypatch.setenv("EDGE_AGENT_NODE__ID", "from-environment")
    assert load(path).node.id == "from-environment"


@pytest.mark.parametrize("text", ["node = 3\n", "[node]\nname = 'x'\n"])
def test_a_broken_node_table_is_explained_under_any_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kitchen.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="node"):
        load(path)
