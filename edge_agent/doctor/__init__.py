"""The doctor: checks everything that the agent needs, before it starts and while it runs, and reports findings.

Files, models and the broker are checked as the service's user and in its sandbox, where that is possible
(`edge_agent.doctor.inside`); the machine is checked from here.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.config.settings import Settings
from edge_agent.doctor import host, inside
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.agent import check_pong
from edge_agent.doctor.findings import Finding, failed, looked_at
from edge_agent.doctor.metrics import check_place
from edge_agent.doctor.models import check_models
from edge_agent.doctor.mosquitto import check_rules
from edge_agent.doctor.service import check_service, check_writing
from edge_agent.errors import ModelError
from edge_agent.host.apart import be_first_to_go
from edge_agent.host.device import Device
from edge_agent.model.library import runtime_version


def examine(loaded: Settings, config: Path | None, device: Device) -> Iterator[Finding]:
    """Check everything, the machine first. `config` is the file that the settings come from."""
    advice = Advice.about(config)
    name = advice.unit
    unit = None if name is None else device.unit(name)
    service = unit or {}
    yield host.check_python(
        sys.version_info[:3], is_64_bit=sys.maxsize > 2**32, machine=platform.machine() or "unknown architecture"
    )
    yield from looked_at("processor", host.check_processor(device))
    yield from looked_at("memory", host.check_memory(device, service))
    yield from looked_at("disk", _check_disk(device, loaded.models.directory), advice.check)
    yield from looked_at("metrics", check_place(loaded, device), advice.check)
    try:
        yield host.check_runtime(runtime_version(), os.environ)
    except ModelError as error:
        yield failed("onnxruntime", error)
    trained: dict[str, str] = {}
    yield from looked_at("sandbox", inside.check(loaded, advice, service, trained))
    if os.geteuid() == 0 and service.get("LoadState") == "loaded":
        yield from looked_at("rules", check_rules(loaded, loaded.routes()))
    yield host.check_clock(datetime.now(UTC), trained, synchronised=device.clock_is_synchronised())
    if name is not None:
        yield check_service(name, unit)
        yield from looked_at("writing", check_writing(device, service, advice))


def examine_quickly(loaded: Settings) -> Iterator[Finding]:
    """Check only whether the running agent answers, for a container's health check."""
    yield from check_pong(loaded)


def examine_offline(loaded: Settings) -> Iterator[Finding]:
    """Check whether the models can be served, before a reload; contact neither broker nor service."""
    if "MAINPID" in os.environ:  # run by ExecReload=, beside the agent and within its limits (systemd.exec(5))
        be_first_to_go()
    yield from looked_at("model", check_models(loaded, loaded.routes(), {}))


def _check_disk(device: Device, directory: Path) -> Iterator[Finding]:
    yield host.check_disk(directory, device.disk(directory))
