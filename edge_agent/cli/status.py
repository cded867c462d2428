"""`edge-agent status`: asks the running agent, over the broker, how it does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from pydantic import ValidationError

from edge_agent import settings, topics
from edge_agent.broker import Link
from edge_agent.cli.login import log_in
from edge_agent.errors import BrokerError
from edge_agent.messages import Answer, Gathered, Message, Status, validator
from edge_agent.settings import Settings

_VERB: Final = "status"


@click.command(name="status")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Configuration file of the agent.  [default: {settings.DEFAULT_FILE}, when it is there]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=600),
    default=5.0,
    show_default=True,
    help="Seconds for the agent to answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as it came, one line of JSON.")
@click.pass_context
def command(ctx: click.Context, config: Path | None, timeout: float, *, as_json: bool) -> None:
    """Ask the running agent how it does, and what it waits for.

    Logs in where the agent does, under a client id of its own, and sends the request `status`. Counters are totals
    since the agent started; rates and latency are those since its last health report.

    Exit status: 0 it answered, 1 it did not, 2 configuration.
    """
    loaded = settings.load(config)
    try:
        answer, trouble = _ask(loaded, timeout)
    except BrokerError as error:
        answer, trouble = None, str(error)
    if answer is None:
        click.echo(f"edge-agent: {trouble}", err=True)
        ctx.exit(1)
    if as_json:
        click.echo(answer)
        return
    try:
        status: Status = validator(Status).validate_json(answer)
    except ValidationError:
        click.echo(f"edge-agent: an agent of another version answered {_cut(answer)}; --json shows it all", err=True)
        ctx.exit(1)
    for line in _lines(status):
        click.echo(line)


def _ask(loaded: Settings, timeout: float) -> tuple[bytes | None, str]:
    """Return the agent's answer, or None and why there is none."""
    node = loaded.node.id
    request, response = topics.request(node).render({"verb": _VERB}), topics.response(node, _VERB)
    state = topics.state(node)
    link = log_in(loaded, [response, state], purpose=_VERB)
    try:
        heard: dict[str, bytes] = {}
        refused = dict(link.refused)
        if response not in refused:
            link.publish(Answer(request, b"", qos=1, content_type=None))
            ends = time.monotonic() + timeout
            while response not in heard and not link.refused_answers and time.monotonic() < ends:
                heard |= _receive(link, ends)
                if heard.get(state) == b"offline":
                    break
            refused |= dict(link.refused_answers)
        link.close()
    except BrokerError:
        link.abandon()
        raise
    return heard.get(response), _why(loaded, timeout, refused, heard.get(state))


def _receive(link: Link, ends: float) -> dict[str, bytes]:
    messages: list[Message] = link.receive(max(0.0, ends - time.monotonic()))
    for message in messages:
        link.answer(message, ())
    return {message.topic: message.payload for message in messages}


def _why(loaded: Settings, timeout: float, refused: dict[str, str], state: bytes | None) -> str:
    """Say why there may be no answer, and what to look at."""
    node, broker = loaded.node.id, f"{loaded.mqtt.host}:{loaded.mqtt.actual_port}"
    for topic, reason in refused.items():
        verb = "writing" if "/request/" in topic else "reading"
        return f"{topic}: {reason}; allow {verb} it in the broker's rules"
    if state == b"offline":
        return f"node {node!r} is offline, says {topics.state(node)} on {broker}; is it running? See its log"
    where = f"no answer from node {node!r} on {broker} within {timeout:g} s"
    if state is None:
        return (
            f"{where}, and {topics.state(node)} is empty: no agent of this name has been there; "
            "is it the agent's own configuration (node.id, mqtt.host)?"
        )
    return (
        f"{where}, though {topics.state(node)} says {_cut(state)}; may it read {topics.request(node).filter} and write "
        f"{topics.response(node, _VERB)}? See its log"
    )


def _cut(payload: bytes) -> str:
    return ascii(payload[:60].decode(errors="replace"))


def _lines(status: Status) -> Iterator[str]:
    """Yield the answer for people."""
    latency = status["latency_ms"]
    kinds = ", ".join(f"{count} {code}" for code, count in sorted(status["rejections"].items()))
    rows = [
        ("node", f"{status['node']}: edge-agent {status['agent']}, MQTT {status['mqtt']}"),
        ("up", f"{_duration(status['uptime'])}, {_count(status['connections'], 'connection')}"),
        ("received", f"{status['received']} ({status['messages_per_second']:g} a second)"),
        ("", f"{status['redelivered']} redelivered, {status['unrouted']} for no route"),
        ("labels", f"{status['predictions']} ({status['predictions_per_second']:g} a second)"),
        ("rejections", kinds or "none"),
        (
            "answered",
            f"{status['answered']}, {status['refused']} refused by the broker, {status['in_flight']} in flight",
        ),
        ("latency", f"p50 {latency['p50']:g} ms, p99 {latency['p99']:g} ms" if latency else "no message lately"),
        ("memory", f"{status['rss_bytes'] / 2**20:.0f} MiB"),
    ]
    if (gathered := status.get("gathering")) is not None:
        rows.append(
            ("sensors", f"{gathered['sensors']}, {gathered['complete']} complete, {gathered['forgotten']} forgotten")
        )
        rows.append(("ignored", f"{_count(gathered['ignored'], 'message')} on topics without a feature"))
    for what, value in rows:
        yield f"{what:<11} {value}"
    if gathered is not None and gathered["waiting"]:
        yield ""
        yield from _waiting(gathered)


def _waiting(gathered: Gathered) -> Iterator[str]:
    table = [("waiting for", "missing", "too old")]
    table += [
        (_plain(one["topic"]), _plain(", ".join(one["missing"])) or "-", _plain(", ".join(one["stale"])) or "-")
        for one in gathered["waiting"]
    ]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    table.insert(1, ("-" * widths[0], "-" * widths[1], "-" * widths[2]))
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    more = gathered["sensors"] - gathered["complete"] - len(gathered["waiting"])
    if more > 0:
        yield f"and {more} more"


def _plain(text: str) -> str:
    """Make text from outside fit for a terminal."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _duration(seconds: float) -> str:
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{seconds:.1f} s"
