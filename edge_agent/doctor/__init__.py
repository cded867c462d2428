"""The doctor: everything that has to be right before the agent can serve, and while it does, one finding each."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from edge_agent import __version__
from edge_agent.device import Device
from edge_agent.doctor import host
from edge_agent.doctor.broker import check_broker
from edge_agent.doctor.findings import Finding, failed, note, ok
from edge_agent.doctor.models import check_models
from edge_agent.doctor.service import check_service, check_writing
from edge_agent.errors import BrokerError, ModelError, NoAnswerError
from edge_agent.messages import Status, validator
from edge_agent.predictor import Predictor, runtime_version
from edge_agent.settings import Settings
from edge_agent.systemd import unit_name
from edge_agent.visit import ask
from edge_agent.wording import duration, mebibytes

#: Seconds that a running agent may take to answer.
_ANSWERS_WITHIN: Final = 3.0
#: So many connections, of so many seconds each on average, are no broker that was started again now and then.
_MANY: Final = 5
_SHORT: Final = 60.0


def examine(loaded: Settings, config: Path | None, device: Device) -> Iterator[Finding]:
    """Look at everything, the machine first. `config` is the file that the settings come from."""
    name = unit_name(config)
    unit = None if name is None else device.unit(name)
    service = unit or {}
    yield host.check_python(
        sys.version_info[:3], is_64_bit=sys.maxsize > 2**32, machine=platform.machine() or "unknown architecture"
    )
    yield from host.check_processor(device)
    yield from host.check_memory(device, service)
    yield from _check_disk(device, loaded.models.directory)
    try:
        yield host.check_runtime(runtime_version(), os.environ)
    except ModelError as error:
        yield failed("onnxruntime", error)
    models: dict[str, Predictor] = {}
    yield from check_models(loaded, loaded.routes(), models)
    trained = {used: model.card.training.date for used, model in models.items()}
    yield host.check_clock(datetime.now(UTC), trained, synchronised=device.clock_is_synchronised())
    protocol = yield from check_broker(loaded, loaded.routes())
    if name is not None:
        yield check_service(name, unit)
        yield from check_writing(device, service)
    if protocol is not None:
        # Finding the protocol out may have taken a while: an old broker may just not answer to a newer one.
        found = loaded.mqtt.model_copy(update={"protocol": protocol})
        yield from _check_agent(loaded.model_copy(update={"mqtt": found}))


def examine_quickly(loaded: Settings) -> Iterator[Finding]:
    """Look at whether the running agent answers, and at nothing else: what a container's health check needs."""
    # A word that nobody else sends: the answer is to this very request, and no message that the broker had kept.
    word = f"{os.getpid()}-{os.urandom(8).hex()}"
    try:
        ask(loaded, "ping", word.encode(), timeout=_ANSWERS_WITHIN, accept=lambda answer: _is_pong(answer, word))
    except BrokerError as error:
        yield failed("agent" if isinstance(error, NoAnswerError) else "broker", error)
    else:
        yield ok("agent", f"node {loaded.node.id} answers")


def examine_offline(loaded: Settings) -> Iterator[Finding]:
    """Look at whether the models can be served, and touch neither broker nor service: what has to hold before a reload."""
    yield from check_models(loaded, loaded.routes(), {})


def _is_pong(answer: bytes, word: str) -> bool:
    try:
        pong = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(pong, dict) and pong.get("pong") == word


def _check_disk(device: Device, directory: Path) -> Iterator[Finding]:
    try:
        yield host.check_disk(directory, device.disk(directory))
    except OSError as error:
        yield note("disk", f"{directory}: can't be looked at: {error.strerror}")


def _check_agent(loaded: Settings) -> Iterator[Finding]:
    """Ask the running agent. That none runs is not wrong by itself: `check_service` knows whether one should."""
    try:
        answer = ask(loaded, "status", timeout=_ANSWERS_WITHIN)
        status: Status = validator(Status).validate_json(answer)
    except NoAnswerError as error:
        yield failed("agent", error)._replace(verdict="note")
    except BrokerError as error:
        yield failed("broker", error)
    except ValidationError:
        yield note("agent", "one of another version answers", "start it again: sudo systemctl restart edge-agent")
    else:
        said = (
            f"answers: up {duration(status['uptime'])}, {status['received']} received, {mebibytes(status['rss_bytes'])}"
        )
        if status["agent"] != __version__:
            yield note(
                "agent",
                f"{said}; it is {status['agent']}, installed here is {__version__}",
                "start it again: sudo systemctl restart edge-agent",
            )
        elif status["connections"] >= _MANY and status["uptime"] < _SHORT * status["connections"]:
            yield note(
                "agent",
                f"{said}; it has lost its connection again and again: {status['connections']} so far",
                "see its log; two agents must not share a name (node.id, mqtt.client_id)",
            )
        else:
            yield ok("agent", said)
