"""Whatever stands in a configuration or in the environment: settings, or one sentence. Never anything else."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from edge_agent.assembly import make_connection_settings
from edge_agent.cli.main import main
from edge_agent.config.connection import Mqtt
from edge_agent.config.load import load
from edge_agent.config.settings import SECTIONS, Settings
from edge_agent.errors import EdgeAgentError, SettingsError
from edge_agent.wording import plain
from tests.unit.strategies import environments, toml_texts

#: The files are written anew for each example.
ANEW = profile(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def loaded(path: Path) -> Settings | None:
    """The settings, and whatever a start makes of them before it loads models; None when they are refused."""
    try:
        settings = load(path)
        make_connection_settings(settings)
    except EdgeAgentError as error:
        refusal = error
    else:
        return settings
    message = plain(str(refusal))
    assert message
    assert len(message) < 8000
    assert refusal.exit_status == 2
    return None


@given(text=toml_texts())
@ANEW
def test_any_configuration(tmp_path: Path, text: str) -> None:
    file = tmp_path / "edge-agent.toml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    loaded(file)


@given(content=st.binary(max_size=300))
@ANEW
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "edge-agent.toml"
    file.write_bytes(content)
    loaded(file)


@given(texts=st.lists(toml_texts(), min_size=2, max_size=3), variables=environments())
@ANEW
def test_any_files_together_with_any_environment(tmp_path: Path, texts: list[str], variables: dict[str, str]) -> None:
    main_file, *beside = texts
    file = tmp_path / "kitchen.toml"
    file.write_bytes(main_file.encode(errors="surrogatepass"))
    (tmp_path / "kitchen.d").mkdir(exist_ok=True)
    for number, text in enumerate(beside):
        (tmp_path / "kitchen.d" / f"{number}.toml").write_bytes(text.encode(errors="surrogatepass"))
    with environment(variables):
        loaded(file)


@given(variables=environments())
@ANEW
def test_any_environment(tmp_path: Path, variables: dict[str, str]) -> None:
    file = tmp_path / "edge-agent.toml"
    file.touch()
    with environment(variables):
        loaded(file)


LONG_MODEL = "m" * 300


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[limits]\nbatch_rows = 18446744073709551616", "limits.batch_rows: Input should be less than or equal to"),
        (
            "[limits]\npayload_bytes = 268435456",
            "limits.payload_bytes: Input should be less than or equal to 268435455",
        ),
        ("[limits]\nsensors = 1000001", "limits.sensors: Input should be less than or equal to 1000000"),
        ("[limits]\nbatch_rows = " + "9" * 5000, "not valid TOML: an integer with thousands of digits"),
        ("[limits]\nbatch_rows = 0x" + "f" * 200_000, "limits.batch_rows: Input should be less than or equal to"),
        (f'[[route]]\nmodel = "{LONG_MODEL}"', "route.1.model: longer than a file name can be"),
        (f'[[route]]\nmodel = "/{"d/" * 3000}x.onnx"', "route.1.model: not a path: longer than 4095 bytes"),
        ('[[route]]\nmodel = "a\\u0000b"', "route.1.model: text with control characters"),
        (f'[[route]]\nsubscribe = "{"a/" * 128}a"', "route.1.subscribe: longer than 1024 characters or 128 levels"),
        (f'[[route]]\npublish = "{"a" * 1025}"', "route.1.publish: longer than 1024 characters or 128 levels"),
        ('[[route]]\nerrors = "a\\u009bb"', "route.1.errors: text with control characters, over which brokers end"),
        ("[[route]]\n" * 1025, "route: Tuple should have at most 1024 items"),
        (
            "[[route]]\nfields = { " + ", ".join(f'f{number} = "x"' for number in range(1025)) + " }",
            "route.1.fields: Dictionary should have at most 1024 items",
        ),
        (f'[[route]]\nfields = {{ a = "{"b" * 1025}" }}', "route.1.fields.a"),
        (f"[[route]]\nfields = {{ a = {['b'] * 33} }}", "route.1.fields.a"),
        (f'[[route]]\nfields = {{ {"f" * 129} = "b" }}', "route.1.fields"),
        (f"[mqtt.tls]\nalpn = {['mqtt'] * 17}", "mqtt.tls.alpn: Tuple should have at most 16 items"),
        (f'[mqtt]\nusername = "{"ä" * 32_768}"', "mqtt.username: longer than the 65535 bytes that MQTT can carry"),
        ('[mqtt]\nusername = "a\\u0000"', "mqtt.username: text with control characters"),
        ('[mqtt]\nclient_id = "a\\u001b"', "mqtt.client_id: text with control characters"),
        (f'[mqtt]\nhost = "{"a" * 64}.lan"', "mqtt.host: not a host name: a part between dots is empty or longer"),
        ('[mqtt]\nhost = "broker..lan"', "mqtt.host: not a host name"),
        (
            f'[mqtt]\nusername = "a"\npassword_file = "/{"d/" * 3000}"',
            "mqtt.password_file: not a path: longer than 4095",
        ),
        ('[mqtt]\nusername = "a"\npassword_file = "a\\u0000b"', "mqtt.password_file: not a path: "),
        ('[models]\ndirectory = "a\\u0000b"', "models.directory: not a path: "),
        ("x = " + "[" * 5000 + "]" * 5000, "tables or lists nested more than 16 deep"),
        ("x = " + "{a = " * 5000 + "1" + "}" * 5000, "tables or lists nested more than 16 deep"),
        ("[" + "a." * 100_000 + "a]", "tables or lists nested more than 16 deep"),
        ("a." * 100_000 + "a = 1", "tables or lists nested more than 16 deep"),
        ('"a" . ' * 40_000 + "a = 1", "tables or lists nested more than 16 deep"),
        ('x = ["""\n""", {' + "a." * 100_000 + "a = 1}]", "tables or lists nested more than 16 deep"),
        ('x = "' + '\\"' * 100_000, "not valid TOML: Unterminated string"),
        ("#" * 300_000, "is too large: at most 262144 bytes are read"),
        ("a" * 200_000 + " = 1", "… is not a setting"),
        ("[mqtt]\n" + "a" * 200_000 + " = 1", "… is not a setting"),
        ("\n".join(f"a{number} = 1" for number in range(20_000)), "a0 is not a setting"),
    ],
)
def test_what_is_too_much(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "edge-agent.toml"
    file.write_text(text)
    began = time.process_time()
    with pytest.raises(SettingsError) as raised:
        load(file)
    assert says in str(raised.value)
    assert str(raised.value).startswith(f"{file}: ")
    assert len(str(raised.value)) < 1000
    # Work, not waiting: keys of 100,000 parts took minutes, and 40 GB.
    assert time.process_time() - began < 10


def leaves(model: type[BaseModel], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in model.model_fields:
        section = SECTIONS.get(name)
        if section is None:
            yield (*place, name)
        else:
            yield from leaves(section, (*place, name))


@pytest.mark.parametrize("place", list(leaves(Settings)), ids=".".join)
@pytest.mark.parametrize(
    "value", [2**63, -(2**63), 1e300, "x" * 300_000, "/x" * 40_000, ["x"] * 100_000, {f"x{number}": "x" for number in range(5000)}],
    ids=["integer", "negative", "float", "text", "path", "list", "table"],
)  # fmt: skip
def test_every_setting_has_bounds(place: tuple[str, ...], value: object) -> None:
    nested: object = [{place[1]: value}] if place[0] == "route" else value
    for name in reversed(place[:1] if place[0] == "route" else place):
        nested = {name: nested}
    with pytest.raises((SettingsError, ValidationError)):
        Settings.model_validate(nested).routes()


def test_lines_with_many_dots_that_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "edge-agent.toml"
    ways = ", ".join(f'f{number} = "a.b.c"' for number in range(100))
    file.write_text(f"# {'.' * 100} a{'.a' * 100}\n[[route]]\nfields = {{ {ways} }}  # see a.b.c.d.e.f.g.h\n")
    assert len(load(file).route[0].fields) == 100


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EDGE_AGENT_ROUTE", "[" * 100_000, "lists or objects nested more than 16 deep"),
        ("EDGE_AGENT_ROUTE", '[{"fields":' + '{"a":' * 100_000, "lists or objects nested more than 16 deep"),
        ("EDGE_AGENT_ROUTE", "[" * 500 + "]" * 500, "lists or objects nested more than 16 deep"),
        ("EDGE_AGENT_MQTT__TLS__" + "X__" * 50 + "Y", "1", "lists or objects nested more than 16 deep"),
        ("EDGE_AGENT_LIMITS", '{"batch_rows": ' + "9" * 5000 + "}", 'error parsing value for field "limits"'),
        ("EDGE_AGENT_MQTT__USERNAME", "\udcff", "mqtt.username: text that can't be encoded as UTF-8"),
        ("EDGE_AGENT_MQTT__HOST", "\udcff", "mqtt.host"),
        ("EDGE_AGENT_MQTT__CLIENT_ID", "\udcff", "mqtt.client_id"),
        ("EDGE_AGENT_NODE__ID", "\udcff", "node.id"),
        ("EDGE_AGENT_\udcff", "x", "EDGE_AGENT_\udcff is not a setting"),
        ("EDGE_AGENT_MQTT__USERNAME", "a" * 65_536, "mqtt.username: longer than the 65535 bytes"),
    ],
)
def test_what_is_too_much_in_the_environment(name: str, value: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "edge-agent.toml"
    file.touch()
    with environment({name: value}), pytest.raises(SettingsError) as raised:
        load(file)
    assert str(raised.value).startswith("environment: ")
    assert says in str(raised.value)


def test_a_path_need_not_be_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "edge-agent.toml"
    file.touch()
    secret = tmp_path / "\udcff"
    secret.write_text("secret")
    with environment({"EDGE_AGENT_MQTT__PASSWORD_FILE": str(secret), "EDGE_AGENT_MQTT__USERNAME": "a"}):
        assert load(file).mqtt.password() == "secret"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_longest_password(ending: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("a" * 65_535 + ending)
    mqtt = Mqtt(username="a" * 65_535, password_file=file)
    assert mqtt.password() == "a" * 65_535
    file.write_text("a" * 65_536 + ending)
    with pytest.raises(SettingsError, match="is too large"):
        mqtt.password()


def test_the_command_says_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is on a terminal: exit status 2, one line."""
    pipe, directory = tmp_path / "pipe.toml", tmp_path / "directory.toml"
    os.mkfifo(pipe)
    directory.mkdir()
    deep = tmp_path / "deep.toml"
    deep.write_text("x = " + "[" * 5000)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(bytes(range(256)) * 100)
    for command in ("run", "status"):
        for path in (pipe, directory, deep, binary, tmp_path / "deep.toml" / "x.toml", tmp_path / ("x" * 300)):
            with pytest.raises(SystemExit) as raised:
                main([command, "--config", str(path)])
            assert raised.value.code == 2
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith(f"edge-agent: {path}: ")
            assert err.count("\n") == 1
