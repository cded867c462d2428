"""What the service's user can't reach. The tests run as root, who reaches all: who may do what is said by a function."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.config.connection import Mqtt, Tls
from edge_agent.config.settings import Settings
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.findings import Finding
from edge_agent.doctor.models import explain_closed
from edge_agent.doctor.reach import Barrier, barrier, check_connection_files, check_secrets, explain_configuration

KITCHEN = Advice.about(Path("/etc/edge-agent/kitchen.toml"))


def closed(*paths: str | Path, absent: str | None = None) -> Callable[[Path, int], bool]:
    """Who may not enter, read or write to these; below `absent` there is nothing."""
    shut = {Path(path) for path in paths}

    def may(path: Path, how: int) -> bool:
        if absent is not None and path.is_relative_to(absent) and path != Path(absent):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return path not in shut or (how == os.X_OK and path.suffix != "")

    return may


@pytest.mark.parametrize(
    ("path", "may", "found"),
    [
        ("/etc/x/ca.crt", closed(), None),
        ("/etc/x/ca.crt", closed("/etc/x/ca.crt"), Barrier(Path("/etc/x/ca.crt"), "may not read")),
        ("/etc/x/ca.crt", closed("/etc/x"), Barrier(Path("/etc/x"), "may not enter")),
        ("/home/pi/ca.crt", closed("/home"), Barrier(Path("/home"), "may not enter")),
        ("/tmp/x/ca.crt", closed(absent="/tmp"), Barrier(Path("/tmp/x/ca.crt"), "does not see")),  # noqa: S108
        # What is not there at all is for others to say.
        ("/etc/x/ca.crt", closed(absent="/etc"), None),
    ],
)
def test_where_the_way_ends(path: str, may: Callable[[Path, int], bool], found: Barrier | None) -> None:
    assert barrier(Path(path), may=may) == found


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/home/pi/ca.crt")
    assert barrier(tmp_path / "link", may=closed("/home")) == Barrier(Path("/home"), "may not enter")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert barrier(tmp_path / "loop") is None


def test_as_the_kernel_says(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert barrier(file) is None
    assert barrier(file, how=os.W_OK) is None
    assert barrier(file / "below") is None


def settings(directory: Path) -> Settings:
    for name in ("password", "ca.crt", "own.crt", "own.key"):
        (directory / name).touch(mode=0o600)
    return Settings(
        mqtt=Mqtt(
            username="kitchen",
            password_file=directory / "password",
            tls=Tls(ca=directory / "ca.crt", certificate=directory / "own.crt", key=directory / "own.key"),
        )
    )


def test_secrets_become_credentials_and_the_rest_readable(tmp_path: Path) -> None:
    may = closed(*(tmp_path / name for name in ("password", "ca.crt", "own.key")))
    found = list(check_connection_files(settings(tmp_path), KITCHEN, may=may))
    assert [one.exit_status for one in found] == [2, 2, 2]
    assert [one.message for one in found] == [
        f"mqtt.password_file: {tmp_path}/password: the service's user may not read it",
        f"mqtt.tls.ca: {tmp_path}/ca.crt: the service's user may not read it",
        f"mqtt.tls.key: {tmp_path}/own.key: the service's user may not read it",
    ]
    password, ca, key = (one.mend or "" for one in found)
    assert f"sudo install -D -m 600 {tmp_path}/password /etc/credstore/edge-agent.kitchen.mqtt-password" in password
    assert "remove password_file from the configuration" in password
    assert password.endswith("sudo systemctl restart edge-agent@kitchen")
    assert ca == f"it is not a secret: sudo chmod a+r {tmp_path}/ca.crt"
    assert "/etc/credstore/edge-agent.kitchen.mqtt-key" in key


def test_a_socket_that_the_service_may_not_reach() -> None:
    loaded = Settings(mqtt=Mqtt(transport="unix", socket=Path("/run/mosquitto/mqtt.sock")))
    (directory,) = check_connection_files(loaded, KITCHEN, may=closed("/run/mosquitto"))
    assert (directory.what, directory.exit_status) == ("broker", 1)
    assert directory.message.endswith("mqtt.sock: the service's user may not enter /run/mosquitto")
    assert "ls -ld /run/mosquitto" in (directory.mend or "")
    (socket,) = check_connection_files(loaded, KITCHEN, may=closed("/run/mosquitto/mqtt.sock"))
    assert socket.message.endswith("the service's user may not write to it")
    assert "sudo systemctl edit edge-agent@kitchen" in (socket.mend or "")
    assert list(check_connection_files(loaded, KITCHEN, may=closed())) == []


@pytest.mark.parametrize(
    ("name", "may", "says", "mend"),
    [
        ("/home/pi/my.onnx", closed("/home"), "/home, which its sandbox hides (ProtectHome)", 'model = "my"'),
        ("/tmp/my.onnx", closed(absent="/tmp"), "its sandbox has its own /tmp", 'model = "my"'),  # noqa: S108
        ("/opt/my.onnx", closed("/opt/my.onnx"), "may not read it", "sudo chmod a+r /opt/my.onnx"),
        ("my", closed("/var/lib/edge-agent/models/my.onnx"), "may not read it", "sudo chmod a+r /var"),
    ],
)
def test_a_model_that_the_service_can_t_read(name: str, may: Callable[[Path, int], bool], says: str, mend: str) -> None:
    found = explain_closed(name, Settings(), may=may)
    assert isinstance(found, Finding)
    assert (found.what, found.exit_status) == ("model", 3)
    assert says in found.message
    assert mend in (found.mend or "")
    assert explain_closed(name, Settings(), may=closed()) is None


def test_a_configuration_that_the_service_can_t_read() -> None:
    file = Path("/etc/edge-agent/edge-agent.toml")
    found = explain_configuration(file, may=closed(file))
    assert found is not None
    assert (found.exit_status, found.mend) == (2, f"it holds no secrets: sudo chmod a+r {file}")
    found = explain_configuration(file, may=closed("/etc/edge-agent"))
    assert found is not None
    assert found.mend == "it holds no secrets: sudo chmod a+x /etc/edge-agent"
    assert explain_configuration(file, may=closed()) is None


def test_secrets_that_others_may_read(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    assert list(check_secrets(loaded, KITCHEN)) == []
    (tmp_path / "own.key").chmod(0o644)
    (found,) = check_secrets(loaded, KITCHEN)
    assert (found.what, found.verdict) == ("secrets", "note")
    assert f"mqtt.tls.key: {tmp_path}/own.key: is open to everybody" in found.message
    # To close it to all but root would close it to the service.
    assert "/etc/credstore/edge-agent.kitchen.mqtt-key" in (found.mend or "")
    (found,) = check_secrets(loaded, Advice.about(Path("mine.toml")))
    assert found.mend == f"chmod 600 {tmp_path}/own.key"
