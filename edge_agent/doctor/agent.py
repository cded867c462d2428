"""The running agent: whether it answers, and what its status says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Final

from edge_agent import __version__
from edge_agent.client import ask, read_status
from edge_agent.config.settings import Settings
from edge_agent.contract.messages import Status
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.findings import Finding, fail, failed, note, ok
from edge_agent.errors import BrokerError, NoAnswerError
from edge_agent.wording import count, duration, mebibytes

#: Seconds to wait for a running agent's answer.
_ANSWERS_WITHIN: Final = 3.0
#: From this many connections on, shorter than this many seconds on average, the cause is not a restart of the broker.
_MANY: Final = 5
_SHORT: Final = 60.0


def check_pong(loaded: Settings) -> Iterator[Finding]:
    """Ask the running agent whether it answers."""
    # A word that nobody else sends, so that a retained message or another client's answer can't be taken for ours.
    word = f"{os.getpid()}-{os.urandom(8).hex()}"
    try:
        ask(loaded, "ping", word.encode(), timeout=_ANSWERS_WITHIN, accept=lambda answer: _is_pong(answer, word))
    except BrokerError as error:
        yield failed("agent" if isinstance(error, NoAnswerError) else "broker", error)
    else:
        yield ok("agent", f"node {loaded.node.id} answers")


def check_agent(loaded: Settings, advice: Advice) -> Iterator[Finding]:
    """Ask the running agent for its status. That none runs is only a note: `check_service` knows whether one should."""
    try:
        answer = ask(loaded, "status", timeout=_ANSWERS_WITHIN)
        status = read_status(answer)
    except NoAnswerError as error:
        yield failed("agent", error)._replace(verdict="note")
    except BrokerError as error:
        yield failed("broker", error)
    except ValueError:
        yield note("agent", "an agent of another version answers", advice.restart)
    else:
        yield from _judge(status, advice)


def _judge(status: Status, advice: Advice) -> Iterator[Finding]:
    said = f"answers: up {duration(status['uptime'])}, {status['received']} received, {mebibytes(status['rss_bytes'])}"
    if status["state"] == "degraded":
        yield fail(
            "agent",
            f"{said}; degraded: {status['reason']}",
            f"allow it in the broker's access rules; the agent retries by itself, and at once after: {advice.reload}",
        )
    elif status["agent"] != __version__:
        yield note("agent", f"{said}; it runs {status['agent']}, but {__version__} is installed", advice.restart)
    elif status["connections"] >= _MANY and status["uptime"] < _SHORT * status["connections"]:
        yield note(
            "agent",
            f"{said}; it keeps losing its connection: {status['connections']} connections so far",
            f"to see why: {advice.log}; if two agents have the same client id, give each its own node.id or mqtt.client_id",
        )
    else:
        yield ok("agent", said)
    which = f"to see which and why: {advice.log}"
    if refused := status["refused"]:
        yield note("answers", f"the broker refused {count(refused, 'message')} from the running agent", which)
    if poisoned := status["poisoned"]:
        yield note("poisoned", f"the answer to {count(poisoned, 'input')} ended the connection each time", which)
    if faults := status["faults"]:
        yield note("faults", f"{count(faults, 'internal error')} in the running agent", which)


def _is_pong(answer: bytes, word: str) -> bool:
    try:
        pong = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(pong, dict) and pong.get("pong") == word
