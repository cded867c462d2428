"""What comes from outside reaches no terminal and no log as it is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cli.main import cli, main
from edge_agent.cli.status import _lines
from edge_agent.client import read_status
from edge_agent.host import logs
from edge_agent.host.systemd import Notifier
from edge_agent.wording import plain, plain_json
from tests.unit.strategies import json_values

#: What a terminal obeys, or is misled by: the window's title, a colour (as ESC [ and as one C1 character), a line of
#: one's own, text from right to left, and the ends of lines that few think of.
HOSTILE = "\x1b]0;pwned\x07\x9b31m\r\n<0>fake\x00\x7f\x85\u202egnp\u2066\u2028\u2029\ud800"
SHOWN = "\\x1b]0;pwned\\x07\\x9b31m\\r\\n<0>fake\\x00\\x7f\\x85\\u202egnp\\u2066\\u2028\\u2029\\ud800"

pytestmark = pytest.mark.usefixtures("logger")


def test_hostile_text_is_shown_and_obeyed_by_nobody() -> None:
    assert plain(HOSTILE) == SHOWN
    assert plain("Küche, 20 °C, 日本, 🙂") == "Küche, 20 °C, 日本, 🙂"


@given(st.text())
def test_any_text_is_one_printable_line(text: str) -> None:
    assert plain(text).isprintable()
    assert plain(plain(text)) == plain(text)


@given(json_values())
def test_json_stays_the_value_it_is(value: Any) -> None:
    for text in (json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=1)):
        line = plain_json(text)
        assert line.isprintable()
        assert repr(json.loads(line)) == repr(json.loads(text))


@pytest.mark.parametrize("environment", [{}, {"JOURNAL_STREAM": "8:1"}])
def test_no_line_of_the_log_commands_a_terminal(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", environment)
    log = logging.getLogger("edge_agent.x")
    log.warning("broker: %s", HOSTILE)
    log.warning("%s", {HOSTILE: HOSTILE})
    log.error("with a trace of %s", HOSTILE, exc_info=ValueError(HOSTILE))
    lines = capsys.readouterr().err.split("\n")
    assert lines.pop() == ""
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert f"broker: {SHOWN}" in lines[0]
    assert "ValueError: " in lines[2]


KEY = '"\\u001b]0;x\\u0007\\u009bm\\u202e"'


@pytest.mark.parametrize(
    "text",
    [
        f"{KEY} = 1",
        f"[mqtt]\n{KEY} = 1",
        f"[[route]]\nfields = {{ {KEY} = 3 }}",
        f"[[route]]\nsubscribe = {KEY}\npublish = {KEY}",
        f"[[route]]\nmodel = {KEY}",
        f"[mqtt]\nusername = 'a'\npassword_file = {KEY}",
        f"[mqtt.tls]\nca = {KEY}",
        "\x1b]0;x\x07",
        "x = '\x9b31m",
    ],
)
def test_errors_of_a_configuration(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "edge-agent.toml"
    file.write_text(text)
    with pytest.raises(SystemExit):
        main(["run", "--config", str(file)])
    *_, error, end = capsys.readouterr().err.split("\n")
    assert (error[:12], error.isprintable(), end) == ("edge-agent: ", True, "")
    for options in ([], ["--json"]):
        if "model" in text:
            continue  # what is in order would be examined further, at a broker
        output = CliRunner().invoke(cli, ["check", "--config", str(file), *options], color=True).output
        # Ours are the colours.
        clean = output.replace("\x1b[31m", "").replace("\x1b[0m", "").replace("\x1b[1m", "")
        assert all(line.isprintable() for line in clean.split("\n"))


def test_errors_about_files_and_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;x\x07\x9bm\u202e"
    for arguments in (
        ["run", "--config", str(tmp_path / hostile)],
        ["try", "{}", "--model", str(tmp_path / f"{hostile}.onnx")],
        ["try", str(tmp_path / f"{hostile}.csv")],
        ["try", f"--{hostile}"],
        [hostile],
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert all(line.isprintable() for line in capsys.readouterr().err.split("\n"))


def test_answers_of_try() -> None:
    answer = CliRunner().invoke(cli, ["try", '{"id": "\x9b31m\u202e\u2028"}'], color=True).stdout.rstrip("\n")
    assert answer.isprintable()
    assert json.loads(answer)["id"] == "\x9b31m\u202e\u2028"


def test_lines_of_status() -> None:
    status: Any = {
        "node": HOSTILE, "state": "degraded", "reason": HOSTILE, "agent": HOSTILE, "mqtt": HOSTILE, "uptime": 1, "connections": 1, "received": 1,
        "messages_per_second": 1.0, "predictions_per_second": 1.0, "redelivered": 0, "unrouted": 0, "poisoned": 1, "faults": 1, "predictions": 0,
        "rejections": {HOSTILE: 1}, "answered": 0, "refused": 0, "in_flight": 0, "latency_ms": None, "rss_bytes": 1,
        "gathering": {
            "sensors": 1, "complete": 0, "forgotten": 0, "ignored": 0,
            "waiting": [{"sensor": HOSTILE, "topic": HOSTILE, "missing": [HOSTILE], "stale": []}],
        },
    }  # fmt: skip
    assert SHOWN in "".join(plain(line) for line in _lines(status))


COUNTS = "received redelivered predictions outside uncertain answered refused unrouted ignored poisoned faults acknowledged in_flight connections"


@pytest.mark.parametrize(
    "key", ["uptime", "interval", "rss_bytes", "connections", "messages_per_second", "rejections", "latency_ms"]
)
@pytest.mark.parametrize("figure", ["1e999", "NaN", "-1e400", "1" + "0" * 400, "1" + "0" * 4299])
def test_a_status_with_figures_that_no_machine_has_is_none(key: str, figure: str) -> None:
    told: dict[str, Any] = {
        "time": "t", "uptime": 1.5, "interval": 1.5, "messages_per_second": 1.0, "predictions_per_second": 1.0, "rejections": {}, "rss_bytes": 1,
        "latency_ms": {"p50": 1.0, "p99": 2.0}, "node": "n", "agent": "1", "mqtt": "5", "state": "online", "reason": None, **dict.fromkeys(COUNTS.split(), 0),
    }  # fmt: skip
    status = read_status(json.dumps(told).encode())
    assert list(_lines(status))
    told[key] = {"rejections": {"a": "FIGURE"}, "latency_ms": {"p50": "FIGURE", "p99": 1}}.get(key, "FIGURE")
    with pytest.raises(ValueError, match=r"too large|validation error"):
        read_status(json.dumps(told).replace('"FIGURE"', figure).encode())


def test_lines_of_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich", reason="the extra `demo` is not installed")
    from edge_agent.demo.view import Line, PlainView, TableView

    line = Line(HOSTILE, HOSTILE, error=HOSTILE, reason=HOSTILE)
    PlainView().show(line)
    assert capsys.readouterr().out.rstrip("\n").isprintable()
    view = TableView(HOSTILE, ("label", "confidence"))
    view.show(line)
    cells = [str(cell) for column in view._table().columns for cell in column.cells]
    assert SHOWN in cells
    assert all(cell.isprintable() for cell in cells)


def test_what_systemd_is_told_is_one_line() -> None:
    said: list[str] = []

    class Heard(Notifier):
        def _send(self, state: str) -> None:
            said.append(state)

    Heard({}).ready(f"serving\nMAINPID=1{HOSTILE}")
    Heard({}).status(f"not connected: {HOSTILE}\nWATCHDOG=trigger")
    assert [state.count("\n") for state in said] == [1, 0]
    assert all(line.isprintable() for state in said for line in state.split("\n"))
