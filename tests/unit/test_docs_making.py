"""The document is made in a process of its own; whatever becomes of that, the agent goes on."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

from edge_agent.config.settings import Settings
from edge_agent.contract.messages import Answer
from edge_agent.docs import asyncapi
from edge_agent.docs.making import Documentation
from edge_agent.docs.served import CONTENT_TYPE, Served
from edge_agent.host.apart import Limits
from edge_agent.testing import make_card
from tests.patience import DEADLINE

pytestmark = pytest.mark.usefixtures("logger")

MODELS = {"genre": Served(make_card(), "0" * 64)}
#: With the characters at which text is cut into lines.
SETTINGS = Settings(
    node={"id": "pi-1"}, route=[{"subscribe": "a\u2028b/{sensor}", "publish": "c/{sensor}", "model": "genre"}]
)
SHORT = Limits(seconds=60, patience=DEADLINE, memory=256 << 20)


@contextmanager
def made(document: Documentation) -> Iterator[Answer | None]:
    ends = time.monotonic() + DEADLINE
    try:
        while not document.ready:
            assert time.monotonic() < ends
            time.sleep(0.005)
        yield document.message("pi-1")
    finally:
        document.close()


def test_it_is_what_the_command_writes() -> None:
    with made(Documentation(SETTINGS, MODELS, limits=SHORT)) as message:
        written = asyncapi.write(SETTINGS, MODELS)
        assert message == Answer("edge/pi-1/docs", written, qos=1, retain=True, content_type=CONTENT_TYPE)


def test_one_that_is_too_large_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), made(Documentation(SETTINGS, MODELS, limits=SHORT, most=1000)) as message:
        assert message is None
    assert "edge/pi-1/docs is not published: it has" in caplog.text
    assert "more than 1000; edge-agent docs --json writes it" in caplog.text


def test_one_that_can_not_be_made_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    without: dict[str, Served] = {}
    with caplog.at_level(logging.WARNING), made(Documentation(SETTINGS, without, limits=SHORT)) as message:
        assert message is None
    assert "is not published: it failed: KeyError" in caplog.text


def test_without_a_process_it_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def begin(*_: object) -> NoReturn:
        raise BlockingIOError("Resource temporarily unavailable")

    with caplog.at_level(logging.WARNING), made(Documentation(SETTINGS, MODELS, begin=begin)) as message:
        assert message is None
    assert "is not published: Resource temporarily unavailable; edge-agent docs --json writes it" in caplog.text


def test_it_may_be_closed_at_any_time() -> None:
    begun, unasked = Documentation(SETTINGS, MODELS, limits=SHORT), Documentation(SETTINGS, MODELS, limits=SHORT)
    _ = begun.ready
    for one in (begun, begun, unasked):
        one.close()
    assert begun.message("pi-1") is None


def test_nothing_that_describes_is_loaded_by_an_agent() -> None:
    """It would stay in memory for years; and so would what only agents with Home Assistant or with a candidate need, or what runs programs."""
    code = (
        "import sys, edge_agent.assembly; print([name for name in sys.modules if name.startswith('edge_agent.docs.')]); "
        "print({'subprocess', *(f'edge_agent.serving.{one}' for one in ('discovery', 'home_assistant', 'contest', 'beside'))} & sys.modules.keys())"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.splitlines() == ["['edge_agent.docs.served', 'edge_agent.docs.making']", "set()"]
