"""`edge-agent watch` of the wheel, which does not bring the library for its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import HOST, free_port
from tests.e2e.conftest import call
from tests.terminal import Screen

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    file = tmp_path / "watch.toml"
    file.write_text(f'[mqtt]\nhost = "{HOST}"\nport = {free_port()}\n')
    return file


def test_without_the_extra_it_says_so_and_shows_lines(edge_agent: Path, configuration: Path) -> None:
    if call(edge_agent.parent / "python", "-c", "import rich").returncode == 0:
        pytest.skip("the environment that was named has the extra")
    with Screen([edge_agent, "watch", "--config", configuration, "--seconds", "0.1"]) as screen:
        assert screen.end() == 1
    assert "the table needs rich: apt install python3-rich" in screen.text
    assert "no connection: Connection refused" in screen.text
    assert "Traceback" not in screen.text
    assert "\x1b" not in screen.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--node", "a/b"), "not the id of a node"),
        (("--topic", "$share/pool/x"), "takes no part in a share"),
        (("--topic", "a/#/b"), "--topic"),
        (("--config", "/nowhere.toml"), "no such file"),
    ],
)
def test_what_can_not_be_watched_is_refused(edge_agent: Path, arguments: tuple[str, ...], said: str) -> None:
    done = call(edge_agent, "watch", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
