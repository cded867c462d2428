"""A file and those beside it: which are read, which wins, and which is named when something is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli.main import cli
from edge_agent.config.load import DEFAULT_FILE, fragments, load, sources
from edge_agent.config.settings import Settings
from edge_agent.errors import SettingsError


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """The path of a configuration that is not there yet, with a directory beside it."""
    (tmp_path / "edge-agent.d").mkdir()
    return tmp_path / "edge-agent.toml"


def put(main: Path, /, **texts: str) -> None:
    """Write files beside `main`; `main` itself under that name."""
    for name, text in texts.items():
        (main if name == "main" else main.with_suffix(".d") / f"{name}.toml").write_text(text)


def refusal(main: Path) -> str:
    with pytest.raises(SettingsError) as raised:
        load(main)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_later_files_win_key_by_key(main: Path) -> None:
    put(
        main,
        main='[mqtt]\nhost = "a"\nport = 1\nkeepalive = 11\n[node]\nid = "main"\n',
        b='[mqtt]\nhost = "b"\n',
        a='[mqtt]\nhost = "a2"\nport = 2\n',
    )
    mqtt = load(main).mqtt
    assert (mqtt.host, mqtt.port, mqtt.keepalive) == ("b", 2, 11)
    assert sources(main) == [main, main.with_suffix(".d") / "a.toml", main.with_suffix(".d") / "b.toml"]


def test_the_environment_wins_over_all(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    route = '[[route]]\nmodel = "{}"\nsubscribe = "{}"\npublish = "out/{}"\n'
    put(main, main=route.format("a", "a", "a"), b='[mqtt]\nhost = "b"\n' + route.format("b", "b", "b"))
    monkeypatch.setenv("EDGE_AGENT_MQTT__HOST", "environment")
    settings = load(main)
    assert settings.mqtt.host == "environment"
    assert [one.model for one in settings.route] == ["a", "b"]
    monkeypatch.setenv("EDGE_AGENT_ROUTE", '[{"model": "c"}]')
    assert [one.model for one in load(main).route] == ["c"]
    monkeypatch.setenv("EDGE_AGENT_ROUTE", '[{"model": "c", "x": 1}]')
    assert refusal(main).startswith("environment: route.1.x is not a setting")


def test_relative_paths_are_relative_to_their_own_file(main: Path) -> None:
    put(
        main,
        main='[mqtt]\nusername = "a"\npassword_file = "secret"\n[[route]]\nmodel = "own.onnx"\nsubscribe = "a"\npublish = "b"\n',
        a='[mqtt.tls]\nca = "ca.crt"\n[[route]]\nmodel = "../own.onnx"\nsubscribe = "c"\npublish = "d"\n',
    )
    settings = load(main)
    directory = main.parent
    assert settings.mqtt.password_file == directory / "secret"
    assert settings.mqtt.tls is not None
    assert settings.mqtt.tls.ca == directory / "edge-agent.d" / "ca.crt"
    assert [one.model for one in settings.route] == [
        str(directory / "own.onnx"),
        str(directory / "edge-agent.d" / "../own.onnx"),
    ]


def test_fragments_alone_are_a_configuration(main: Path) -> None:
    put(main, a='[mqtt]\nhost = "a"\n')
    assert load(main).mqtt.host == "a"
    # And so is a directory for them that is empty yet, as packages leave it.
    (main.with_suffix(".d") / "a.toml").unlink()
    assert load(main) == Settings()
    assert sources(main) == []
    main.with_suffix(".d").rmdir()
    assert "no such file; leave --config out" in refusal(main)


@pytest.mark.skipif(DEFAULT_FILE.parent.exists(), reason="this machine has a configuration of its own")
def test_a_default_file_that_is_not_there_is_no_mistake() -> None:
    assert load() == Settings()
    assert sources() == []


@pytest.mark.parametrize("name", ["kitchen.toml", "first floor.toml"])
def test_each_configuration_has_a_directory_of_its_own(tmp_path: Path, name: str) -> None:
    main = tmp_path / name
    main.touch()
    beside = main.with_suffix(".d")
    for directory in (beside, tmp_path / "edge-agent.d"):
        directory.mkdir()
    (tmp_path / "edge-agent.d" / "a.toml").write_text("not for us")
    (beside / "a.toml").write_text('[mqtt]\nhost = "a"\n')
    assert load(main).mqtt.host == "a"
    assert load(main).node.id.endswith("-" + name.removesuffix(".toml").replace(" ", "-"))


def test_what_is_no_fragment_is_left_alone(main: Path) -> None:
    put(main, main="")
    beside = main.with_suffix(".d")
    for name in ("README", "a.toml~", "a.toml.dpkg-new", "a.toml.bak", ".a.toml", ".a.toml.swp"):
        (beside / name).write_text("no TOML at all")
    (beside / "more").mkdir()
    assert load(main) == Settings()
    assert fragments(main.parent / "edge-agent.conf") is None


@pytest.mark.parametrize(
    ("texts", "file", "says"),
    [
        ({"main": "", "a": "[mqtt]\nport = 0"}, "a", "mqtt.port: Input should be greater"),
        ({"main": "[mqtt]\nport = 0", "a": "[mqtt]\nhost = 'a'"}, "main", "mqtt.port: Input should be greater"),
        ({"main": "[mqtt]\nport = 1", "a": "[mqtt]\nport = 0", "b": "[node]\nid = 'x'"}, "a", "mqtt.port: Input"),
        ({"main": "[mqtt]\nport = 1", "a": "mqtt = 3", "b": "[node]\nid = 'x'"}, "a", "mqtt: not a table"),
        ({"main": "[mqtt]\nport = 1", "a": "[mqtt]\nhots = 'a'"}, "a", "mqtt.hots is not a setting; did you mean"),
        ({"main": "[mqtt]\nport = 1", "a": "[mqqt]\nhost = 'a'"}, "a", "mqqt is not a setting; did you mean"),
        ({"main": "[mqtt]\nport = 1", "a": "[mqtt"}, "a", "not valid TOML"),
        ({"a": "[[route]]\n", "b": "[[route]]\nsubscribe = 'b'\nshare = ''"}, "b", "route.2.share: String should"),
        (
            {"a": "[[route]]\n", "b": "[[route]]\nfields = {x = ''}", "c": "[[route]]"},
            "b",
            "route.2.fields: x: '' leads nowhere",
        ),
        ({"a": "[[route]]\n", "b": "[[route]]\nsubscribe = '#'\npublish = 'b'"}, "b", "route 2: topic '#'"),
        ({"main": "[[route]]\nsubscribe = '#'\npublish = 'b'", "b": "[[route]]"}, "main", "route 1: topic '#'"),
        ({"main": "[route]\nmodel = 'x'", "b": "[[route]]"}, "main", "route: write [[route]] with double brackets"),
        ({"main": "[[route]]\nmodel = 'x'", "b": "route = 5"}, "b", "route: Input should be a valid tuple"),
        ({"main": "[[route]]", "b": "[[route.x]]"}, "b", "route: write [[route]] with double brackets"),
    ],
)
def test_the_file_at_fault_is_named(main: Path, texts: dict[str, str], file: str, says: str) -> None:
    put(main, **texts)
    name = main if file == "main" else main.with_suffix(".d") / f"{file}.toml"
    message = refusal(main)
    assert message.startswith(f"{name}: {says}")
    several = sum("[[route]]" in text for text in texts.values()) > 1
    assert message.endswith(" (routes count over all files)") == (several and says.startswith(("route.", "route ")))


def test_what_does_not_go_together_names_both_files(main: Path) -> None:
    beside = main.with_suffix(".d")
    put(main, main="[node]\nid = 'n'", a="[mqtt]\npassword_file = 'x'", b="[mqtt]\nhost = 'b'")
    assert refusal(main).startswith(f"{beside / 'a.toml'} or {beside / 'b.toml'}: mqtt: password_file needs a username")
    put(
        main,
        a="[[route]]\nsubscribe = 'a'\npublish = 'b'",
        b="[[route]]\nsubscribe = 'b'\npublish = 'c'",
        c="[[route]]",
    )
    assert refusal(main).startswith(f"{beside / 'a.toml'} or {beside / 'b.toml'}: route 1: what it publishes on 'b'")
    put(
        main,
        a="[[route]]\nsubscribe = 'a'\npublish = 'b'",
        b="[[route]]",
        c="[[route]]\nsubscribe = 'a'\npublish = 'b'",
    )
    assert refusal(main).startswith(f"{beside / 'a.toml'} or {beside / 'c.toml'}: routes 1 and 3: the same topics")


def test_what_lies_where_a_fragment_should(main: Path) -> None:
    put(main, main="")
    odd = main.with_suffix(".d") / "odd.toml"
    odd.mkdir()
    assert refusal(main).startswith(f"{odd}: Is a directory")
    odd.rmdir()
    os.mkfifo(odd)
    assert refusal(main).startswith(f"{odd}: is a pipe")
    odd.unlink()
    odd.symlink_to("nowhere")
    assert refusal(main).startswith(f"{odd}: No such file or directory: it is a link to nowhere")
    odd.unlink()
    for number in range(257):
        (main.with_suffix(".d") / f"{number}.toml").touch()
    assert "edge-agent.d: 257 files, but at most 256 are read" in refusal(main)


def test_a_file_in_place_of_the_directory(main: Path) -> None:
    put(main, main="")
    main.with_suffix(".d").rmdir()
    main.with_suffix(".d").touch()
    assert refusal(main).startswith(f"{main.with_suffix('.d')}: Not a directory")


def test_check_shows_which_files_were_read(main: Path) -> None:
    put(main, main="[node]\nid = 'shown'", a="[mqtt]\nport = 1", b="")
    beside = main.with_suffix(".d")
    result = CliRunner().invoke(cli, ["check", "--offline", "--config", str(main)])
    assert result.exit_code == 0, result.output
    assert f"configuration  {main}, {beside / 'a.toml'}, {beside / 'b.toml'}; node shown" in result.output
    put(main, b="[mqtt]\nport = 0")
    result = CliRunner().invoke(cli, ["check", "--offline", "--config", str(main)])
    assert result.exit_code == 2
    assert f"{beside / 'b.toml'}: mqtt.port" in result.output


def test_a_reload_reads_all_of_them_anew(main: Path) -> None:
    put(main, main="[mqtt]\nport = 1")
    assert load(main).mqtt.port == 1
    put(main, a="[mqtt]\nport = 2")
    assert load(main).mqtt.port == 2
    put(main, b="[mqtt]\nport = 3")
    assert load(main).mqtt.port == 3
