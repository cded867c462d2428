"""The checks that depend on who runs them: configuration and files, models, broker, and the running agent.

`examine` checks as whoever calls it. `check` runs it as the service does: root could read what the service's user may
not, and would see what the sandbox hides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from edge_agent import assembly
from edge_agent.config.precautions import as_root
from edge_agent.config.settings import Settings
from edge_agent.doctor import sandbox
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.agent import check_agent
from edge_agent.doctor.broker import check_broker
from edge_agent.doctor.findings import Finding, fail, failed, from_json, looked_at, note, ok
from edge_agent.doctor.kept import check_store
from edge_agent.doctor.metrics import check_writing
from edge_agent.doctor.models import check_models
from edge_agent.doctor.reach import check_connection_files, check_secrets
from edge_agent.doctor.sandbox import Blind
from edge_agent.errors import SettingsError
from edge_agent.model.library import Predictor

#: How `edge-agent` is called to check as the service.
COMMAND: Final = "check --as-service"
_STARTS: Final = frozenset({"active", "reloading", "activating"})


def check(loaded: Settings, advice: Advice, unit: Mapping[str, str], trained: dict[str, str]) -> Iterator[Finding]:
    """Check as the service if possible, else as we are; put the date of each model's training into `trained`."""
    if advice.unit is None or unit.get("LoadState") != "loaded":
        # Without a service, as in a container, the agent runs as our own user.
        yield from check_user()
        yield from examine(loaded, advice, trained)
        return
    if os.geteuid() != 0:
        yield note("sandbox", f"only root can check as {advice.unit}; what follows is checked as you", advice.check)
        yield from examine(loaded, advice, trained)
        return
    told = sandbox.run_inside(advice.unit, COMMAND)
    report = told if isinstance(told, Blind) else read(told)
    if isinstance(report, Blind):
        yield _blind(report, advice, unit)
        yield from examine(loaded, advice, trained)
        return
    findings, dates = report
    trained.update(dates)
    yield ok("sandbox", f"what follows is checked as {advice.unit}: as its user, in its sandbox, with its credentials")
    yield from findings


def examine(
    loaded: Settings, advice: Advice, trained: dict[str, str], *, as_service: bool = False
) -> Iterator[Finding]:
    """Check models, files and broker; put the date of each model's training into `trained`."""
    models: dict[str, Predictor] = {}
    yield from looked_at("model", check_models(loaded, loaded.routes(), models, as_service=as_service), advice.check)
    yield from looked_at("store", check_store(loaded, models, as_service=as_service), advice.check)
    trained.update({name: model.card.training.date for name, model in models.items()})
    closed = list(looked_at("configuration", check_connection_files(loaded, advice))) if as_service else []
    yield from closed
    yield from looked_at("metrics", check_writing(loaded, as_service=as_service))
    yield from looked_at("secrets", check_secrets(loaded, advice))
    if closed:
        return
    try:
        assembly.address(loaded)
    except SettingsError as error:
        yield failed("configuration", error)
        return
    protocol = yield from check_broker(loaded, loaded.routes(), advice)
    if protocol is not None:
        # Not negotiated again: a broker that ignores a newer CONNECT makes that slow.
        found = loaded.mqtt.model_copy(update={"protocol": protocol})
        yield from check_agent(loaded.model_copy(update={"mqtt": found}), advice)


def check_user() -> Iterator[Finding]:
    """Check which user we run as."""
    if (wrong := as_root()) is not None:
        said, _, mend = wrong.rpartition("; ")
        yield note("user", said, mend)


def report(findings: list[Finding], trained: Mapping[str, str]) -> str:
    """Return findings as text for `read`."""
    return json.dumps({"findings": [finding._asdict() for finding in findings], "trained": dict(trained)})


def read(text: str) -> tuple[list[Finding], dict[str, str]] | Blind:
    """Return the findings and the date of each model's training from the text of `report`."""
    try:
        told: Any = json.loads(text)
        findings = [from_json(one) for one in told["findings"]]
        trained = {str(name): str(date) for name, date in told["trained"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Blind("its output can't be read; is another version of edge-agent installed?")
    return findings, trained


def _blind(why: Blind, advice: Advice, unit: Mapping[str, str]) -> Finding:
    said = f"can't check as {advice.unit}: {why.reason}"
    if why.broken and unit.get("ActiveState") not in _STARTS:
        # What stops our copy of the unit stops the service.
        return fail("sandbox", said, f"see the unit and its log: systemctl cat {advice.unit}; {advice.log}")
    return note("sandbox", f"{said}; files, models and broker are checked as root")
