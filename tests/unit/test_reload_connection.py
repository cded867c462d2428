"""Whether a reload keeps the connection: the settings that belong to it, and the reload itself."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.assembly import Preparation, make_connection_settings
from edge_agent.config.load import load
from edge_agent.config.settings import Settings
from edge_agent.errors import BrokerError, ModelError, SettingsError
from edge_agent.host.process import Signals
from edge_agent.link.link import TlsOptions, digests
from edge_agent.serving.agent import Agent
from edge_agent.serving.plan import ConnectionSettings
from edge_agent.serving.reloading import Reloads
from edge_agent.testing import FakeLink
from tests.certificates import Authority
from tests.unit.agents import FEATURES
from tests.unit.test_reload import Running, answer


def line(**sections: Any) -> ConnectionSettings:
    return make_connection_settings(Settings(**{"node": {"id": "node"}, **sections}))


def test_a_line_is_the_same_while_its_settings_are() -> None:
    assert line() == line(route=[{"publish": "x/{sensor}"}], health={"interval": 5}, limits={"sensors": 3})
    assert line() == line(mqtt={"port": 1883})


@pytest.mark.parametrize(
    "sections",
    [
        {"mqtt": {"host": "elsewhere"}},
        {"mqtt": {"port": 1884}},
        {"mqtt": {"transport": "websockets"}},
        {"mqtt": {"client_id": "me"}},
        {"mqtt": {"username": "me"}},
        {"mqtt": {"protocol": "5"}},
        {"mqtt": {"keepalive": 31}},
        {"mqtt": {"session_expiry": 1}},
        {"mqtt": {"receive_maximum": 1}},
        {"mqtt": {"tls": {}}},
        {"node": {"id": "other"}},
        {"limits": {"payload_bytes": 1}},
    ],
)
def test_a_line_is_another_one_when_they_are_not(sections: dict[str, Any]) -> None:
    assert line() != line(**sections)


def test_a_session_is_that_of_a_client_at_a_broker() -> None:
    assert (
        line().session == line(mqtt={"keepalive": 31, "username": "me"}).session == "edge-agent-node at localhost:1883"
    )
    others = {line(mqtt=mqtt).session for mqtt in ({"host": "elsewhere"}, {"port": 1884}, {"client_id": "me"})}
    assert len(others | {line().session}) == 4


def test_a_line_is_another_one_when_a_secret_was_renewed_in_place(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("old")
    mqtt: dict[str, Any] = {"username": "me", "password_file": str(password)}
    before = line(mqtt=mqtt)
    assert before == line(mqtt=mqtt)
    password.write_text("new")
    assert before != line(mqtt=mqtt)
    authority = Authority(tmp_path)
    pair = authority.issue("node")
    mqtt = {"tls": {"ca": authority.file, "certificate": pair.certificate, "key": pair.key}}
    before = line(mqtt=mqtt)
    assert before == line(mqtt=mqtt)
    assert authority.issue("node") == pair
    assert before != line(mqtt=mqtt)


def test_the_hash_of_a_file_that_is_gone(tmp_path: Path) -> None:
    assert digests(TlsOptions()) == ()
    with pytest.raises(SettingsError, match=r"mqtt\.tls\.ca: .*: No such file"):
        digests(TlsOptions(ca=tmp_path / "none"))


def reload(agent: Agent, load: Callable[[], Settings]) -> bool:
    """Let it reload as on SIGHUP, and wait for the end; return whether anything was taken over."""
    with Signals(children=True) as signals, Reloads(agent, lambda known: Preparation(load(), known), {}) as reloads:
        signal.raise_signal(signal.SIGHUP)
        taken = reloads.see_to(signals)
        while reloads.busy:
            signals.wait(1)
            taken = reloads.see_to(signals)
    return taken


def settings(**sections: Any) -> Settings:
    return Settings(node={"id": "node"}, log={"level": "error"}, **sections)


def test_a_reload_is_told_and_done(logger: logging.Logger) -> None:
    first = FakeLink()
    running = Running(first)
    assert reload(running.agent, settings)
    assert running.notifier.said[-1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert running.ready == 1
    assert first.closed
    assert logger.level == logging.ERROR


@pytest.mark.parametrize("error", [SettingsError("no such key"), ModelError("no such model")])
def test_a_reload_that_can_t_be_changes_nothing(
    error: Exception, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> Settings:
        raise error

    running = Running(link := FakeLink())
    before = logger.handlers
    assert not reload(running.agent, load)
    assert running.notifier.said[-1] == f"READY=1\nSTATUS=reload rejected: {error}"
    assert (logger.handlers, link.closed, len(link.subscribed)) == (before, False, 1)
    assert f"reload rejected, going on with the old settings and models: {error}" in caplog.text
    assert len(answer(link, running.agent, FEATURES)) == 1


def test_a_model_that_can_t_be_found_changes_nothing(tmp_path: Path) -> None:
    running = Running(link := FakeLink())
    reload(running.agent, lambda: settings(route=[{"model": str(tmp_path / "none.onnx")}]))
    assert "reload rejected" in running.notifier.said[-1]
    assert len(answer(link, running.agent, FEATURES)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[limits]\nbatch_rows = 18446744073709551616",
        "[limits]\nbatch_rows = " + "9" * 5000,
        f'[[route]]\nmodel = "{"m" * 300}"',
        "x = " + "[" * 5000 + "]" * 5000,
        "x = " + "{a = " * 5000,
        "a." * 100_000 + "a = 1",
        f'[mqtt]\nusername = "{"a" * 65_536}"',
        "\x00\x01",
        "#" * 1_000_000,
        None,
    ],
)
def test_a_hostile_configuration_changes_nothing(
    text: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "edge-agent.toml"
    if text is None:
        os.mkfifo(file)  # nobody writes to it
    else:
        file.write_text(text)
    running = Running(link := FakeLink())
    reload(running.agent, lambda: load(file))
    assert f"reload rejected, going on with the old settings and models: {file}: " in caplog.text
    assert "reload rejected" in running.notifier.said[-1]
    assert len(answer(link, running.agent, FEATURES)) == 1


@pytest.mark.parametrize("away", [True, False])
def test_a_refusal_ends_the_reload_with_or_without_a_broker(*, away: bool) -> None:
    def load() -> Settings:
        raise SettingsError("no such key")

    running = Running(BrokerError("no route") if away else FakeLink())
    reload(running.agent, load)
    assert [said.partition("\n")[0] for said in running.notifier.said[-2:]] == ["RELOADING=1", "READY=1"]
    before = len(running.notifier.said)
    running.agent.step()
    assert not [said for said in running.notifier.said[before:] if said.startswith("READY=1")]
