"""All settings, with bounds and defaults. `edge_agent.config.load` reads them from files and environment.

The defaults run the bundled model against a broker on this machine.
"""

from __future__ import annotations

import os
import re
import socket
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, field_validator

from edge_agent.config.connection import Mqtt, Tls
from edge_agent.config.routes import FieldSettings, RouteSettings, SourceSettings
from edge_agent.config.updating import Models, Update
from edge_agent.config.values import Bytes, FileOrNone, Many, Section, Wait
from edge_agent.contract import topics
from edge_agent.contract.answers import MAX_EXPLAINED
from edge_agent.contract.messages import MAX_ANSWER_BYTES, MAX_PAYLOAD_BYTES
from edge_agent.contract.topics import PREFIX
from edge_agent.errors import SettingsError
from edge_agent.payload.features import MAX_BATCH_ROWS
from edge_agent.routing.routes import Route, refuse_loops, refuse_overlaps
from edge_agent.routing.sensors import MAX_SENSORS

#: The service's directory in memory, where systemd does not say another one.
RUNTIME_DIRECTORY: Final = "/run/edge-agent"


def host_name() -> str:
    """Return the host name without its domain, as one topic level."""
    return one_word(socket.gethostname().partition(".")[0]) or "edge"


def one_word(text: str) -> str:
    """Return text with only the characters that a node id may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


def _levels(prefix: str) -> str:
    if prefix.endswith("/"):
        raise ValueError("write it without a slash at the end")
    return prefix


class Node(Section):
    """The identity of this device."""

    #: Part of the topics `edge/{id}/...` and of the client id, so it is one plain word. Default: `edge_agent.config.load`.
    id: str = Field(default_factory=host_name)

    @field_validator("id")
    @classmethod
    def _one_word(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            raise ValueError("write one word of letters (a to z), digits, '.', '_' and '-', at most 64 characters")
        if name == topics.FLEET:
            raise ValueError(f"{name!r} is in the topics of all nodes; choose another name")
        return name


class Limits(Section):
    """Limits on the cost of one message, and on the state that is kept."""

    payload_bytes: Bytes = MAX_PAYLOAD_BYTES
    batch_rows: Many = MAX_BATCH_ROWS
    #: Largest answer; a batch that would have a larger one is rejected as a whole.
    answer_bytes: Annotated[int, Field(ge=4096, le=64 << 20)] = MAX_ANSWER_BYTES
    #: Most sensors whose values are kept, for each route that captures {feature}.
    sensors: Many = MAX_SENSORS
    #: Most rows of one message whose answers are explained.
    explained_rows: Annotated[int, Field(ge=1, le=10_000)] = MAX_EXPLAINED


class HealthSettings(Section):
    """Reports on `edge/{node}/health`. Times in seconds."""

    interval: Annotated[float, Field(ge=1, le=86_400)] = 30.0


class MetricsSettings(Section):
    """Metrics for Prometheus."""

    #: A name alone is one in the service's directory in memory; empty for no metrics.
    textfile: FileOrNone = ""

    @property
    def path(self) -> Path | None:
        """The file to write, None for none."""
        if not self.textfile:
            return None
        if "/" in self.textfile:
            return Path(self.textfile).absolute()
        given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # by systemd.exec(5)
        return Path(given or RUNTIME_DIRECTORY) / self.textfile


class HomeAssistant(Section):
    """Announcements to Home Assistant."""

    enabled: bool = False
    #: The discovery prefix of Home Assistant's MQTT integration.
    prefix: Annotated[
        str,
        StringConstraints(pattern=PREFIX),
        AfterValidator(_levels),
    ] = "homeassistant"
    #: Seconds after which an answer is too old to be shown; 0 for never.
    expire_after: Wait = 3600.0

    @property
    def topics(self) -> tuple[str, str]:
        """Templates of the topics that are its own."""
        return f"{self.prefix}/status", f"{self.prefix}/device/{{id}}/config"


class DriftSettings(Section):
    """Whether what models are asked, and what they answer, is compared with what they were trained on."""

    enabled: bool = True
    #: Hours of data that are looked at, before which nothing is concluded.
    min_hours: Annotated[float, Field(gt=0, le=720)] = 24.0
    #: Seconds between two reports.
    interval: Annotated[float, Field(ge=1, le=86_400)] = 600.0


class DocsSettings(Section):
    """The description of all topics and payloads (AsyncAPI) on `edge/{node}/docs`."""

    #: Whether it is published, retained, where the broker keeps such messages.
    publish: bool = True


class Log(Section):
    """Logging to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """All settings."""

    node: Node = Field(default_factory=Node)
    mqtt: Mqtt = Field(default_factory=Mqtt)
    route: Annotated[tuple[RouteSettings, ...], Field(min_length=1, max_length=1024)] = (RouteSettings(),)
    models: Models = Field(default_factory=Models)
    update: Update = Field(default_factory=Update)
    limits: Limits = Field(default_factory=Limits)
    health: HealthSettings = Field(default_factory=HealthSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    home_assistant: HomeAssistant = Field(default_factory=HomeAssistant)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    docs: DocsSettings = Field(default_factory=DocsSettings)
    log: Log = Field(default_factory=Log)

    @field_validator("route", mode="before")
    @classmethod
    def _no_bare_table(cls, value: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("write [[route]] with double brackets: it is a list")  # noqa: TRY004 - pydantic's way
        return value

    def routes(self) -> tuple[Route, ...]:
        """Return the routes; raises `SettingsError` when they could feed the agent its own output."""
        return self._routes

    @property
    def publishes_docs(self) -> bool:
        """Whether the node's description is on a topic of its own: it is for those who come later."""
        return self.docs.publish and self.mqtt.retain is not False

    @cached_property
    def _routes(self) -> tuple[Route, ...]:
        routes = tuple(_in_place(f"route {number}", one) for number, one in enumerate(self.route, start=1))
        node, told = self.node.id, self.home_assistant
        besides: dict[str, str] = {}
        if told.enabled:
            besides |= dict.fromkeys((*told.topics, topics.announced(node)), "is for Home Assistant")
        if told.enabled or self.update.channel:
            besides[topics.model(node, "{name}")] = "this agent says of its models"
        if self.update.channel:
            besides[topics.fleet().text] = "is for all nodes of a channel"
        refuse_loops(routes, node, besides)
        refuse_overlaps(routes)
        return routes


def _in_place(where: str, route: RouteSettings) -> Route:
    try:
        return route.route()
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


#: The tables, by name.
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "node": Node,
    "mqtt": Mqtt,
    "tls": Tls,
    "route": RouteSettings,
    "source": SourceSettings,
    "fields": FieldSettings,
    "models": Models,
    "update": Update,
    "limits": Limits,
    "health": HealthSettings,
    "metrics": MetricsSettings,
    "home_assistant": HomeAssistant,
    "drift": DriftSettings,
    "docs": DocsSettings,
    "log": Log,
}
