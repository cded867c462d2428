"""Where a password and keys come from: files, credentials of systemd, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent import assembly
from edge_agent.config.connection import Mqtt, Tls
from edge_agent.config.settings import Settings
from edge_agent.errors import SettingsError
from tests.unit.test_settings import SECRET


def mqtt(**values: Any) -> Mqtt:
    return Mqtt(username="ann", **values)


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b" a b ", " a b "),
        ("ä".encode(), "ä"),
    ],
)
def test_the_password_file(tmp_path: Path, content: bytes, password: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    assert mqtt(password_file=file).password() == password


def test_the_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert mqtt().password() is None
    (tmp_path / "mqtt-password").write_text("from systemd\n")
    assert mqtt().password() == "from systemd"
    # It needs somebody to be the password of, and a file that is named goes before it.
    assert Mqtt().password() is None
    (tmp_path / "own").write_text("own")
    assert mqtt(password_file=tmp_path / "own").password() == "own"


def test_the_systemd_credentials_of_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Tls().file("ca") is None
    (tmp_path / "mqtt-certificate").touch()
    with pytest.raises(ValueError, match="certificate and key must be set together"):
        Tls()
    (tmp_path / "mqtt-key").touch()
    tls = Tls(certificate=Path("/own"))
    assert (tls.file("ca"), tls.file("certificate"), tls.file("key")) == (None, Path("/own"), tmp_path / "mqtt-key")
    # They turn nothing on by themselves.
    assert not Mqtt().uses_tls


def test_a_key_that_is_a_credential_is_not_missed_where_systemd_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of ExecReload= is shown no credentials: a reload that is right must not fail by it."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ValueError, match="certificate and key must be set together"):
        Tls(certificate=Path("/own"))
    monkeypatch.setenv("MAINPID", "17")
    assert Tls(certificate=Path("/own")).pair() == (None, None)
    # No connection is made with it, and nothing is looked at that is half of a pair.
    chosen = Settings(mqtt={"tls": {"certificate": "/nowhere"}})
    tls = assembly.address(chosen).tls
    assert tls is not None
    assert (tls.certificate, tls.key) == (None, None)


def test_passwords_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file or directory; check path and permissions"):
        mqtt(password_file=tmp_path / "nowhere").password()
    with pytest.raises(SettingsError, match="Is a directory"):
        mqtt(password_file=tmp_path).password()
    file = tmp_path / "password"
    for content, says in (
        (SECRET.encode() + b"\xff", "is not UTF-8 text"),
        (SECRET.encode() * 10_000, "too large"),
        (b"\n", "is empty"),
    ):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=says) as raised:
            mqtt(password_file=file).password()
        assert SECRET not in str(raised.value)
        assert raised.value.__cause__ is None or SECRET not in str(raised.value.__cause__)
