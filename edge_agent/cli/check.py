"""`edge-agent check`: everything that has to be right before the agent can serve, one line each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, Literal, NamedTuple

import click

from edge_agent import assembly, settings, topics
from edge_agent.broker import Link
from edge_agent.cli.login import log_in
from edge_agent.errors import BrokerError, EdgeAgentError, ModelError, SettingsError
from edge_agent.levels import lay_out
from edge_agent.messages import Answer
from edge_agent.predictor import Predictor, locate
from edge_agent.routes import FEATURE, Route
from edge_agent.settings import Settings

#: What stands for each captured level in the topics of the trial answers.
_TRIAL: Final = "edge-agent-check"
#: Topics of a gathering route that are named.
_PLACES: Final = 10
#: Seconds for the broker to take or refuse the trial answers.
_DEADLINE: Final = 5.0


class Finding(NamedTuple):
    """One line: what was looked at, how it is, and what to do about it."""

    verdict: Literal["ok", "note", "FAIL"]
    what: str
    message: str


@click.command(name="check")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Configuration file.  [default: {settings.DEFAULT_FILE}, when it is there]",
)
@click.pass_context
def command(ctx: click.Context, config: Path | None) -> None:
    """Check configuration, models, broker and permissions, one line each.

    Logs in under a client id of its own, so a running agent is not disturbed. To see whether the answers may be
    published, an empty message goes to each output topic, with "edge-agent-check" in place of {sensor}.

    Exit status: 0 all is well, 1 something has to be done, 2 configuration, 3 model unusable.
    """
    try:
        loaded = settings.load(config)
        routes = loaded.routes()
        where = assembly.address(loaded)
    except EdgeAgentError as error:
        _show(Finding("FAIL", "configuration", str(error)))
        ctx.exit(error.exit_status)
    _show(Finding("ok", "configuration", f"{_source(config)}; node {loaded.node.id}, broker {where}"))
    status = 0
    for finding in chain(_check_models(loaded, routes), _check_broker(loaded, routes)):
        _show(finding)
        if finding.verdict == "FAIL":
            status = status or (ModelError.exit_status if finding.what == "model" else 1)
    ctx.exit(status)


def _show(finding: Finding) -> None:
    colour = {"ok": "green", "note": "yellow", "FAIL": "red"}[finding.verdict]
    click.echo(f"{click.style(finding.verdict.ljust(4), fg=colour)}  {finding.what.ljust(13)}  {finding.message}")


def _source(config: Path | None) -> str:
    if config is not None:
        return str(config)
    return str(settings.DEFAULT_FILE) if settings.DEFAULT_FILE.exists() else "built-in defaults"


def _check_models(loaded: Settings, routes: tuple[Route, ...]) -> Iterator[Finding]:
    models: dict[str, Predictor] = {}
    for name in dict.fromkeys(route.model for route in routes):
        try:
            model = models[name] = Predictor.load(locate(name, loaded.models.directory))
        except ModelError as error:
            yield Finding("FAIL", "model", str(error))
            continue
        card = model.card
        yield Finding("ok", "model", f"{card.name} {card.version}, sha256 {model.sha256[:12]}…, {model.where}")
        yield Finding("note", "signature", f"{card.name}: not checked; no trust policy asks for one")
        yield Finding(
            "ok",
            "self-test",
            f"{card.name}: {len(card.self_test.rows)} rows as scikit-learn gave them, "
            f"largest difference {model.self_test_difference:.1e}",
        )
    try:
        assembly.check_fields(routes, models)
    except SettingsError as error:
        yield Finding("FAIL", "fields", str(error))
        return
    for route in routes:
        if route.gathers and route.model in models:
            yield Finding("ok", "gathering", _inputs(route, models[route.model].card.feature_names))


def _inputs(route: Route, features: Sequence[str]) -> str:
    """Say on which topics a gathering route expects the features."""
    same = {name: f"{{{name}}}" for name in route.subscribe.captures}
    places = [
        f"{', '.join(name for name, _ in on_it)} on {route.subscribe.render({**same, FEATURE: level})}"
        for level, on_it in lay_out(features, route.fields).items()
    ]
    more = f"; and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return "; ".join(places[:_PLACES]) + more


def _check_broker(loaded: Settings, routes: tuple[Route, ...]) -> Iterator[Finding]:
    try:
        # Not as one of a pool: the check would take messages from the agents in it.
        alone = [route._replace(share=None) for route in routes]
        link = log_in(loaded, subscriptions := assembly.subscriptions(loaded.node.id, alone), purpose="check")
    except BrokerError as error:
        yield Finding("FAIL", "broker", str(error))
        return
    try:
        yield Finding("ok", "broker", f"{link.address}: logged in over MQTT {link.protocol}")
        refused = dict(link.refused)
        for topic in subscriptions:
            if topic in refused:
                yield Finding("FAIL", "subscribe", f"{topic}: {refused[topic]}; allow reading it in the broker's rules")
            else:
                yield Finding("ok", "subscribe", topic)
        yield from _check_publishing(link, loaded, routes)
        link.close()
    except BrokerError as error:
        yield Finding("FAIL", "broker", str(error))
        link.abandon()


def _check_publishing(link: Link, loaded: Settings, routes: tuple[Route, ...]) -> Iterator[Finding]:
    outputs = [
        template.render(dict.fromkeys(template.captures, _TRIAL))
        for route in routes
        for template in (route.publish, route.errors)
    ]
    trials = [*dict.fromkeys(outputs), topics.health(loaded.node.id)]
    for topic in trials:
        link.publish(Answer(topic, b"", qos=1, content_type=None))
    ends = time.monotonic() + _DEADLINE
    while link.unconfirmed and time.monotonic() < ends:
        link.receive(ends - time.monotonic())
    refused = dict(link.refused_answers)
    for topic in trials:
        if topic in refused:
            yield Finding("FAIL", "publish", f"{topic}: {refused[topic]}; allow writing it in the broker's rules")
        elif topic in link.unconfirmed:
            yield Finding("FAIL", "publish", f"{topic}: the broker did not confirm it within {_DEADLINE:.0f} s")
        elif link.protocol == "5":
            yield Finding("ok", "publish", topic)
        else:
            yield Finding("note", "publish", f"{topic}: sent; MQTT 3.1.1 does not tell whether it is allowed")
