"""The composition root: builds an agent from settings. Only this module knows all the parts."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, cast

from edge_agent import __version__
from edge_agent.config.models import followed_before, is_on_trial, left, library, loading, store
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.manifest import MAX_MESSAGE_BYTES
from edge_agent.contract.messages import Answer, Described, ServedModel
from edge_agent.docs.making import Documentation
from edge_agent.docs.served import Served
from edge_agent.errors import ExplainError, SettingsError
from edge_agent.host.device import Device
from edge_agent.host.systemd import Notifier
from edge_agent.link.link import Address, Link, TlsOptions, digests, make_context
from edge_agent.link.terms import Terms
from edge_agent.model.library import Limits, Loaded, Predictor, limits, runtime_version
from edge_agent.model.shelf import is_name
from edge_agent.payload.features import ECHOED
from edge_agent.routing.levels import lay_out
from edge_agent.routing.routes import FEATURE, Route, subscriptions, told_overlaps
from edge_agent.serving.agent import Agent
from edge_agent.serving.announcements import Later, TakenBack, will
from edge_agent.serving.pipeline import Pipeline
from edge_agent.serving.plan import Connection, ConnectionSettings, Plan
from edge_agent.serving.reports import now
from edge_agent.tally import Tally

if TYPE_CHECKING:
    from edge_agent.serving.discovery import Discovery
    from edge_agent.serving.drifting import Drifting
    from edge_agent.serving.released import Wish
    from edge_agent.serving.updating import Updates

_log = logging.getLogger(__name__)


def make_agent(settings: Settings, models: Mapping[str, Loaded] | None = None) -> Agent:
    """Build the agent from `models`, or load them. Raises `ModelError` or `SettingsError`;
    opens no connection.
    """
    return Agent(make_connection_settings(settings), make_plan(settings, models), notifier=Notifier())


def make_plan(settings: Settings, loaded: Mapping[str, Loaded] | None = None, wish: Wish | None = None) -> Plan:
    """Return the plan for `models`, given by the names that the routes use, and what is wished for. Raises `ModelError` or
    `SettingsError`.
    """
    routes = settings.routes()
    for sentence in told_overlaps(routes):
        _log.info("%s", sentence)
    loaded = loading(settings).models() if loaded is None else loaded
    models = {name: one.predictor for name, one in loaded.items()}
    check_routes(routes, models)
    served = {name: Served(one.card, one.sha256) for name, one in models.items()}
    # What is served goes on being watched where the channel was switched off, and what came of that is said by who wished for this plan.
    has_updates = bool(settings.update.channel) or wish is not None or is_on_trial(settings, served)
    tells = not has_updates
    discovery = make_discovery(settings, models, tells_models=tells) if settings.home_assistant.enabled else None
    drift = make_drift(settings, models) if settings.drift.enabled else None
    pipeline = Pipeline(
        routes,
        models if wish is None else {**models, **wish.before},
        max_bytes=settings.limits.payload_bytes,
        max_rows=settings.limits.batch_rows,
        max_answer=settings.limits.answer_bytes,
        max_sensors=settings.limits.sensors,
        max_explained=settings.limits.explained_rows,
        response_topics=settings.mqtt.response_topics,
        watcher=discovery,
        contests=None if wish is None else wish.contests,
        observers=None if drift is None else drift.observers,
    )
    node = settings.node.id
    return Plan(
        pipeline,
        subscriptions(node, routes),
        describer(node, routes, models),
        settings.health.interval,
        textfile=settings.metrics.path,
        discovery=discovery,
        later=(
            *make_taken_back(settings, models, has_updates=has_updates),
            *([Documentation(settings, served)] if settings.publishes_docs else []),
            *([TakenBack(topics.drift(node))] if drift is None else []),
        ),
        updates=make_updates(settings, loaded, wish) if has_updates else None,
        drift=drift,
    )


def make_taken_back(settings: Settings, models: Mapping[str, Predictor], *, has_updates: bool) -> Iterator[Later]:
    """Yield what takes back what updates have left: what was said of models that nobody tells of now, and pieces of files."""
    found = left(settings)
    if found is None:
        return
    told: set[str] = set()
    if has_updates:
        told = {*models}
    else:
        if settings.home_assistant.enabled:
            told = {one.card.name for one in models.values()}
        if found.pieces:
            from edge_agent.serving.workshop import Pieces

            yield Pieces(partial(store, settings))
    for name in sorted({*filter(is_name, models), *found.names} - told):
        yield TakenBack(topics.model(settings.node.id, name))


def make_updates(
    settings: Settings,
    loaded: Mapping[str, Loaded],
    wish: Wish | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    today: Callable[[], float] = time.time,
) -> Updates:
    """Return what brings models over MQTT in the place of `loaded`, given by the names that the routes use. `clock` gives the seconds of
    its pauses, `today` the time of day by which a manifest expires. Raises `SettingsError`.
    """
    from edge_agent.model.trust import Signers
    from edge_agent.serving.released import About, Served
    from edge_agent.serving.updating import Updates
    from edge_agent.serving.workshop import Workshop

    update, routes = settings.update, settings.routes()

    def fits(models: Mapping[str, Served]) -> None:
        check_routes(routes, {name: cast("Loaded", one.loaded).predictor for name, one in models.items()})

    signers = Signers(update.keys(), update.threshold)
    return Updates(
        About(
            settings.node.id,
            update.channel,
            update.by_hand,
            update.max_bytes,
            signers.digest if update.require_signature else "",
        ),
        # A route that names a file is served by that very file.
        {
            name: Served(one.predictor.card, one.predictor.sha256, one, one.predictor)
            for name, one in loaded.items()
            if is_name(name)
        },
        Workshop(
            lambda patience: store(settings, patience),
            update.channel,
            signers,
            required=update.require_signature,
            elsewhere=lambda name: library(settings).elsewhere(name),
            clock=today,
        ),
        clock=clock,
        now=now,
        fits=fits,
        contests={} if wish is None else wish.contests,
    )


def make_drift(settings: Settings, models: Mapping[str, Predictor]) -> Drifting:
    """Return what watches `models`, given by the names that the routes use, for drift."""
    from edge_agent.serving.drifting import Drifting

    told = settings.drift
    return Drifting(models, hours=told.min_hours, interval=told.interval, clock=time.monotonic, time=now)


def make_discovery(settings: Settings, models: Mapping[str, Predictor], *, tells_models: bool = True) -> Discovery:
    """Return what tells Home Assistant of the node that serves `models`, given by the names that the routes use; `tells_models`: nobody else
    says which versions there are.
    """
    from edge_agent.serving.discovery import Discovery
    from edge_agent.serving.home_assistant import About, kind_of

    served = [(route, models[route.model].card) for route in settings.routes() if route.model in models]
    installed: dict[str, str] = {}  # two files may have one name: then it is the first route's
    for _, card in served:
        installed.setdefault(card.name, card.version)
    about = About(
        settings.node.id,
        settings.home_assistant.prefix,
        __version__,
        tuple(installed.items()),
        settings.health.interval,
        settings.home_assistant.expire_after,
        has_temperature=Device().temperature() is not None,
        tells_models=tells_models,
        asks_before_installing=bool(settings.update.channel) and settings.update.by_hand,
        has_drift=settings.drift.enabled,
    )
    return Discovery(about, [kind_of(*one) for one in served], limit=settings.limits.sensors, clock=time.monotonic)


def make_connection_settings(settings: Settings) -> ConnectionSettings:
    """Return the connection settings. Raises `SettingsError` when one of their files can't be used."""
    where = address(settings)
    files = () if where.tls is None else digests(where.tls)
    terms = make_terms(settings)
    for channel in followed_before(settings):  # our session may have them from then
        terms.left |= {topics.manifest(channel), topics.keys(channel)}
    dial = _Dial(
        where,
        will(settings.node.id),
        # A message to a route that is larger than `payload_bytes` is rejected in any case.
        max(settings.limits.payload_bytes, MAX_MESSAGE_BYTES if settings.update.channel else 0),
        files,
        settings.mqtt.retain,
        terms,
    )
    session = f"{where.client_id} at {where}"
    return ConnectionSettings(
        settings.node.id, dial, session, tuple(protocols(settings)), settings.mqtt.max_backoff, str(where)
    )


@dataclass(frozen=True)
class _Dial:
    """Opens connections. Equal to another one that would open the same connection, with the same content of TLS files."""

    where: Address
    last_word: Answer
    max_payload: int
    tls_files: tuple[bytes, ...]
    retain: bool | Literal["auto"]
    #: What is known of the broker by now; a new one goes on with the old one's while they are equal.
    terms: Terms = field(compare=False, repr=False)

    def __call__(self, protocol: str, wanted: Mapping[str, bool], tally: Tally) -> Connection:
        return Link(
            self.where,
            protocol=protocol,
            will=self.last_word,
            subscriptions=wanted,
            tally=tally,
            max_payload=self.max_payload,
            terms=self.terms,
        )


def make_terms(settings: Settings) -> Terms:
    """Return what is known of a broker before the first connection: what is set."""
    retain = None if settings.mqtt.retain == "auto" else settings.mqtt.retain
    return Terms(retain=retain, last_protocol=protocols(settings)[-1])


class Preparation:
    """New settings for a running agent: implements `edge_agent.serving.reloading.NextPlan`."""

    def __init__(
        self,
        settings: Settings,
        known: Collection[Loaded] = (),
        allowed: Callable[[int], Limits] = limits,
        wish: Wish | None = None,
    ) -> None:
        self._settings, self._allowed, self._wish = settings, allowed, wish
        self.log_level: str = settings.log.level
        self.connection_settings = make_connection_settings(settings)
        more = () if wish is None else cast("tuple[Loaded, ...]", wish.known)
        self.loading = loading(settings, (*known, *more), allowed)

    def plan(self, models: Mapping[str, Loaded]) -> Plan:
        """Return the plan for the loaded models. Raises `SettingsError`."""
        return make_plan(self._settings, models, self._wish)

    def again(self, known: Collection[Loaded], wish: Wish | None) -> Self:
        """Begin to load the models of the same settings, as they are now on the disk, for a plan with what is wished for."""
        return type(self)(self._settings, known, self._allowed, wish)


def check_routes(routes: Sequence[Route], models: dict[str, Predictor]) -> None:
    """Raise `SettingsError` when a route's `fields` do not match the features of its model, or when it asks for a confidence
    that the model does not have.
    """
    for number, route in enumerate(routes, start=1):
        if route.model not in models:
            continue
        model = models[route.model]
        if route.min_confidence and not model.output.has_confidence:
            raise SettingsError(
                f"route {number}: min_confidence: the answers of model {route.model!r} ({model.card.task}) have no confidence; "
                "remove min_confidence"
            )
        on, labels = route.binary_sensor, model.card.labels
        if on is not None and (len(labels) != 2 or on not in labels):
            has = f"has the labels {', '.join(map(repr, labels))}" if labels else f"({model.card.task}) has no labels"
            raise SettingsError(
                f"route {number}: binary_sensor: model {route.model!r} {has}; it takes a model with two labels, and one of them"
            )
        if route.explain != "none":
            try:
                model.explainer(route.explain)
            except ExplainError as error:
                raise SettingsError(f"route {number}: explain: {error}") from None
        _check_fields(number, route, model.card.feature_names)


def _check_fields(number: int, route: Route, features: Sequence[str]) -> None:
    known = features if route.by_feature or route.debounce else (*features, *ECHOED)
    for source in route.inputs:
        for name, _ in source.fields:
            if name not in known:
                raise SettingsError(
                    f"route {number}: fields.{name}: model {route.model!r} has no such feature; it has "
                    f"{', '.join(known)}"
                )
        if FEATURE in source.subscribe.captures:
            try:
                lay_out(features, source.fields)
            except SettingsError as error:
                raise SettingsError(f"route {number}: {error}") from None
    if all(source.only_fields for source in route.inputs):
        lacking = set(features) - {name for source in route.inputs for name, _ in source.fields}
        if lacking:
            raise SettingsError(
                f'route {number}: no source has {min(lacking)!r}; say where it is: fields = {{ {min(lacking)} = "…" }}'
            )


def address(settings: Settings, *, client_id: str | None = None, session_expiry: int | None = None) -> Address:
    """Return the broker's address with the login; raises `SettingsError` when one of its files can't be used.

    `client_id` and `session_expiry` (seconds) override those of the settings.
    """
    mqtt = settings.mqtt
    tls = None
    if mqtt.tls is not None and mqtt.uses_tls:
        certificate, key = mqtt.tls.pair()
        tls = TlsOptions(ca=mqtt.tls.file("ca"), certificate=certificate, key=key, alpn=mqtt.tls.alpn)
        make_context(tls)  # fails at start if a file is unusable; each connection reads them again
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


def _served(model: Predictor) -> ServedModel:
    told: dict[str, object] = {
        "name": model.card.name,
        "version": model.card.version,
        "sha256": model.sha256,
        "task": model.card.task,
        "features": list(model.card.feature_names),
        **model.output.described,
    }
    return cast("ServedModel", told)


def describer(node: str, routes: Sequence[Route], models: dict[str, Predictor]) -> Callable[[str, str], Described]:
    """Return the function that makes the node's info."""

    def describe(protocol: str, started: str) -> Described:
        return {
            "node": node,
            "agent": __version__,
            "python": platform.python_version(),
            "onnxruntime": runtime_version(),
            "mqtt": protocol,
            "started": started,
            "models": [_served(model) for model in models.values()],
            "routes": [
                {
                    "model": models[route.model].card.name,
                    "subscribe": route.inputs_text,
                    "publish": route.publish.text,
                    "errors": route.errors.text,
                }
                for route in routes
            ],
        }

    return describe
