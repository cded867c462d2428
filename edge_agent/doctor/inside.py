"""What the service meets: its configuration and files, the models, the broker, and the running agent.

`examine` is the look itself, by whoever calls it. `check` has it done as the service: root may read what the service's user
may not, and sees what its sandbox hides.
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
from edge_agent.doctor.models import check_models
from edge_agent.doctor.reach import check_connection_files, check_secrets
from edge_agent.doctor.sandbox import Blind
from edge_agent.errors import SettingsError
from edge_agent.model.library import Predictor

#: What `edge-agent check` is called with where it is to look as the service.
COMMAND: Final = "check --as-service"
_STARTS: Final = frozenset({"active", "reloading", "activating"})


def check(loaded: Settings, advice: Advice, unit: Mapping[str, str], trained: dict[str, str]) -> Iterator[Finding]:
    """Look as the service does, or else as we are; put the date of each model's training into `trained`."""
    if advice.unit is None or unit.get("LoadState") != "loaded":
        # Whoever starts the agent here does it as the user that we are, a container for one.
        yield from check_user()
        yield from examine(loaded, advice, trained)
        return
    if os.geteuid() != 0:
        yield note("sandbox", f"only root can look as {advice.unit} does; this is what you may see", advice.check)
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
    yield ok(
        "sandbox", f"what follows is seen as {advice.unit} sees it: by its user, in its sandbox, with its credentials"
    )
    yield from findings


def examine(
    loaded: Settings, advice: Advice, trained: dict[str, str], *, as_service: bool = False
) -> Iterator[Finding]:
    """Look at models, files and broker; put the date of each model's training into `trained`."""
    models: dict[str, Predictor] = {}
    yield from looked_at("model", check_models(loaded, loaded.routes(), models, as_service=as_service), advice.check)
    trained.update({name: model.card.training.date for name, model in models.items()})
    closed = list(looked_at("configuration", check_connection_files(loaded, advice))) if as_service else []
    yield from closed
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
        # Finding the protocol out may have taken a while: an old broker may just not answer to a newer one.
        found = loaded.mqtt.model_copy(update={"protocol": protocol})
        yield from check_agent(loaded.model_copy(update={"mqtt": found}), advice)


def check_user() -> Iterator[Finding]:
    """Look at who we are."""
    if (wrong := as_root()) is not None:
        said, _, mend = wrong.rpartition("; ")
        yield note("user", said, mend)


def report(findings: list[Finding], trained: Mapping[str, str]) -> str:
    """Return as text, for `read`, what was found."""
    return json.dumps({"findings": [finding._asdict() for finding in findings], "trained": dict(trained)})


def read(text: str) -> tuple[list[Finding], dict[str, str]] | Blind:
    """Return what was found, and the date of each model's training."""
    try:
        told: Any = json.loads(text)
        findings = [from_json(one) for one in told["findings"]]
        trained = {str(name): str(date) for name, date in told["trained"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Blind("what it wrote can't be read; is the installed edge-agent of another version?")
    return findings, trained


def _blind(why: Blind, advice: Advice, unit: Mapping[str, str]) -> Finding:
    said = f"{advice.unit}: can't look as it does: {why.reason}"
    if why.broken and unit.get("ActiveState") not in _STARTS:
        # What stops our copy of the unit stops the service.
        return fail("sandbox", said, f"see what it says of itself: systemctl cat {advice.unit}; {advice.log}")
    return note("sandbox", f"{said}; files, models and broker are looked at as root")
