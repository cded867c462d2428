from __future__ import annotations

import logging
import re

import pytest

from edge_agent.host import logs

pytestmark = pytest.mark.usefixtures("logger")


def test_plain_lines_have_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", {})
    logging.getLogger("edge_agent.serving.agent").info("connected as %s", "kitchen")
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d INFO    connected as kitchen\n", err)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_the_journal_gets_its_levels(level: int, priority: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("debug", {"JOURNAL_STREAM": "8:1"})
    logging.getLogger("edge_agent.x").log(level, "something")
    assert capsys.readouterr().err == f"<{priority}>something\n"


@pytest.mark.parametrize("environment", [{}, {"JOURNAL_STREAM": "8:1"}])
def test_one_event_is_one_line(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", environment)
    log = logging.getLogger("edge_agent.x")
    log.warning("from outside: %s", "a\r\n<0>fake\nb")
    log.error("with a trace", exc_info=ValueError("two\nlines"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "a\\r\\n<0>fake\\nb" in lines[0]
    assert "ValueError: two\\nlines" in lines[1]


def test_what_is_below_the_level_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("warning", {})
    log = logging.getLogger("edge_agent.x")
    log.info("no")
    log.warning("yes")
    assert capsys.readouterr().err.endswith("WARNING yes\n")


def test_setting_up_twice_says_things_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", {})
    logs.set_up("info", {})
    logging.getLogger("edge_agent.x").info("once")
    assert capsys.readouterr().err.count("once") == 1
