"""What `check` says of the file for Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.settings import MetricsSettings, Settings
from edge_agent.doctor.metrics import check_place, check_writing
from edge_agent.host.device import Device, Disk
from tests.unit.test_reach import closed


class Machine(Device):
    """One that has a single disk."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._only = Disk(device, 1 << 30, read_only=False)
        self.asked: list[Path] = []

    def disk(self, directory: Path) -> Disk:
        self.asked.append(directory)
        return self._only


def settings(textfile: str) -> Settings:
    return Settings(metrics=MetricsSettings(textfile=textfile))


def test_nothing_is_said_where_it_is_off() -> None:
    machine = Machine("mmcblk0p2")
    assert [*check_place(settings(""), machine), *check_writing(settings(""), as_service=True)] == []
    assert machine.asked == []


def test_a_card_is_told_of() -> None:
    machine = Machine("mmcblk0p2")
    (found,) = check_place(settings("/var/lib/x/edge-agent.prom"), machine)
    assert machine.asked == [Path("/var/lib/x")]
    assert (found.verdict, found.what) == ("note", "metrics")
    assert (
        found.message == "/var/lib/x/edge-agent.prom is on the SD card (mmcblk0p2): writing it every 30 s wears it out"
    )
    assert found.mend == 'a name alone is a file in memory: textfile = "edge-agent.prom"'
    assert list(check_place(settings("/run/x/edge-agent.prom"), Machine("tmpfs"))) == []


def test_a_name_that_node_exporter_passes_over_is_told_of() -> None:
    (found,) = check_place(settings("/run/x/metrics.txt"), Machine("tmpfs"))
    assert (found.verdict, found.mend) == ("note", "call it metrics.prom")


def test_a_file_that_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "edge-agent.prom"
    (found,) = check_writing(settings(str(path)), as_service=False)
    assert (found.verdict, found.message) == ("ok", f"{path} can be written")
    assert not path.exists(), "the check writes nothing"


@pytest.mark.parametrize("as_service", [True, False])
def test_a_directory_that_is_closed(as_service: bool) -> None:
    may = closed("/srv/metrics")
    (found,) = check_writing(settings("/srv/metrics/edge-agent.prom"), as_service=as_service, may=may)
    assert found.verdict == "fail"
    assert found.message == "metrics.textfile: /srv/metrics/edge-agent.prom: the service's user may not write to it"
    assert (found.mend or "").startswith("a name alone")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "edge-agent.prom"
    (found,) = check_writing(settings(str(path)), as_service=True, may=closed(absent=str(tmp_path)))
    assert found.verdict == "fail"


def test_a_directory_of_the_sandbox_s_own_is_seen_by_nobody_else() -> None:
    chosen = settings("/tmp/edge-agent.prom")  # noqa: S108 - that is the point
    (found,) = check_writing(chosen, as_service=True, may=closed())
    assert (found.verdict, "PrivateTmp" in found.message) == ("fail", True)
    assert [one.verdict for one in check_writing(chosen, as_service=False, may=closed())] == ["ok"]


def test_the_directory_of_the_service_comes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Path("/run/edge-agent-that-is-not-here")
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{given}:/run/other")
    (found,) = check_writing(settings("edge-agent.prom"), as_service=True)
    assert (found.verdict, found.message) == ("ok", f"{given}/edge-agent.prom: its directory comes with the service")
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert settings("edge-agent.prom").metrics.path == Path("/run/edge-agent/edge-agent.prom")
