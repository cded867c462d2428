"""The composition root: settings in, a wired agent out. The only place where all the parts meet."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence

from edge_agent import __version__, logs, topics
from edge_agent.agent import Agent, Connection, will
from edge_agent.broker import Address, Link, TlsOptions, make_context
from edge_agent.codecs import ECHOED
from edge_agent.errors import EdgeAgentError, SettingsError
from edge_agent.health import Tally
from edge_agent.levels import lay_out
from edge_agent.messages import Info
from edge_agent.pipeline import Pipeline
from edge_agent.predictor import Predictor, locate, runtime_version
from edge_agent.reports import now
from edge_agent.routes import Route
from edge_agent.settings import Settings
from edge_agent.systemd import Notifier

_log = logging.getLogger(__name__)


def make_agent(settings: Settings) -> Agent:
    """Load the models and put the agent together. Raises `ModelError` or `SettingsError`; opens no connection."""
    routes = settings.routes()
    models = load_models(routes, settings)
    check_fields(routes, models)
    tally = Tally()
    pipeline = Pipeline(
        routes,
        models,
        tally=tally,
        max_bytes=settings.limits.payload_bytes,
        max_rows=settings.limits.batch_rows,
        max_sensors=settings.limits.sensors,
    )
    node = settings.node.id
    return Agent(
        node,
        pipeline,
        dialler(settings, routes, tally),
        describer(node, routes, models),
        protocols=protocols(settings),
        notifier=Notifier(),
        health_interval=settings.health.interval,
        max_backoff=settings.mqtt.max_backoff,
    )


def reload(agent: Agent, load: Callable[[], Settings]) -> Agent:
    """Return the agent of the settings as they are now, ready to take over; the same one when they can't be used.

    Everything is loaded and checked before the old one lets go. The new one connects in the same session, which keeps
    what arrives in between.
    """
    notifier = Notifier()
    notifier.reloading()
    try:
        settings = load()
        successor = make_agent(settings)
    except EdgeAgentError as error:
        _log.error("reload refused, everything stays as it was: %s", error)
        notifier.ready(f"reload refused: {error}")
        return agent
    logs.set_up(settings.log.level)
    agent.leave(successor=successor.node == agent.node)
    _log.info("reloaded")
    return successor


def load_models(routes: Sequence[Route], settings: Settings) -> dict[str, Predictor]:
    """Load every model that a route names, by the name that the route uses."""
    models: dict[str, Predictor] = {}
    for name in dict.fromkeys(route.model for route in routes):
        model = models[name] = Predictor.load(locate(name, settings.models.directory))
        _log.info(
            "model %s %s from %s: self-test passed on %d rows",
            model.card.name,
            model.card.version,
            model.where,
            len(model.card.self_test.rows),
        )
    return models


def check_fields(routes: Sequence[Route], models: dict[str, Predictor]) -> None:
    """Raise `SettingsError` when a route's `fields` do not go with the features of its model."""
    for number, route in enumerate(routes, start=1):
        if route.model not in models:
            continue
        features = models[route.model].card.feature_names
        known = features if route.gathers else (*features, *ECHOED)
        for name, _ in route.fields:
            if name not in known:
                raise SettingsError(
                    f"route {number}: fields.{name}: model {route.model!r} has no such feature; it has {', '.join(known)}"
                )
        if route.gathers:
            try:
                lay_out(features, route.fields)
            except SettingsError as error:
                raise SettingsError(f"route {number}: {error}") from None


def address(settings: Settings, *, client_id: str | None = None, session_expiry: int | None = None) -> Address:
    """Return where the broker is and how to log in; raises `SettingsError` when a file for it can't be used.

    `client_id` and `session_expiry` (seconds) stand in for those of the settings.
    """
    mqtt = settings.mqtt
    tls = None
    if mqtt.tls is not None and mqtt.uses_tls:
        files = {name: mqtt.tls.file(name) for name in ("ca", "certificate", "key")}
        tls = TlsOptions(**files, alpn=mqtt.tls.alpn)
        make_context(tls)  # a start with a file that can't be used ends here; each connection reads them anew
    return Address(
        host=mqtt.host,
        port=mqtt.actual_port,
        transport=mqtt.transport,
        path=mqtt.path,
        socket=mqtt.socket,
        client_id=client_id or mqtt.client_id or f"edge-agent-{settings.node.id}",
        username=mqtt.username,
        password=mqtt.password(),
        tls=tls,
        keepalive=mqtt.keepalive,
        session_expiry=mqtt.session_expiry if session_expiry is None else session_expiry,
        receive_maximum=mqtt.receive_maximum,
        connect_timeout=mqtt.connect_timeout,
    )


def protocols(settings: Settings) -> list[str]:
    """Return the protocol versions to try, best first."""
    return ["5", "3.1.1"] if settings.mqtt.protocol == "auto" else [settings.mqtt.protocol]


def dialler(settings: Settings, routes: Sequence[Route], tally: Tally) -> Callable[[str], Connection]:
    """Return what begins a connection of the protocol version it is given."""
    where, last_word = address(settings), will(settings.node.id)
    filters = subscriptions(settings.node.id, routes)
    # Gathered values live in memory: those that the broker keeps have to come again.
    gathered = {route.subscription for route in routes if route.gathers}

    def dial(protocol: str) -> Connection:
        return Link(
            where,
            protocol=protocol,
            will=last_word,
            subscriptions=filters,
            retained=gathered,
            tally=tally,
            max_payload=settings.limits.payload_bytes,
        )

    return dial


def describer(node: str, routes: Sequence[Route], models: dict[str, Predictor]) -> Callable[[str], Info]:
    """Return what describes the node."""
    started = now()

    def describe(protocol: str) -> Info:
        return {
            "node": node,
            "agent": __version__,
            "python": platform.python_version(),
            "onnxruntime": runtime_version(),
            "mqtt": protocol,
            "started": started,
            "models": [
                {
                    "name": model.card.name,
                    "version": model.card.version,
                    "sha256": model.sha256,
                    "features": list(model.card.feature_names),
                    "labels": list(model.card.labels),
                }
                for model in models.values()
            ],
            "routes": [
                {
                    "model": models[route.model].card.name,
                    "subscribe": route.subscribe.text,
                    "publish": route.publish.text,
                    "errors": route.errors.text,
                }
                for route in routes
            ],
        }

    return describe


def subscriptions(node: str, routes: Sequence[Route]) -> list[str]:
    """Return the topic filters of a node: its management requests, and what its routes take."""
    return [topics.request(node).filter, *dict.fromkeys(route.subscription for route in routes)]
