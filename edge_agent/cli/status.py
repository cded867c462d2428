"""`edge-agent status`: shows the state of the running agent, asked through the broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import ValidationError

from edge_agent.client import ask, cut, read_status
from edge_agent.config.load import DEFAULT_FILE, load
from edge_agent.contract.drift import Drift
from edge_agent.contract.messages import Busy, Gathered, Status, validator
from edge_agent.errors import BrokerError
from edge_agent.host.systemd import borrow_credentials
from edge_agent.wording import count, duration, plain, plain_json


@click.command(name="status")
@click.option(
    "--config",
    # `load` reports a missing or unreadable file.
    type=click.Path(path_type=Path, readable=False),
    help=f"Configuration file of the agent.  [default: {DEFAULT_FILE}, when it is there]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=600),
    default=5.0,
    show_default=True,
    help="Seconds to wait for the agent's answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the agent's answer unchanged, as one line of JSON.")
@click.pass_context
def command(ctx: click.Context, config: Path | None, timeout: float, *, as_json: bool) -> None:
    """Show the running agent's state, counters and incomplete sensors.

    Connects to the agent's broker under another client id and sends the request `status`. When run as root it uses the
    service's credentials. Counters are totals since the agent started; rates and latency cover the time since its
    last health report.

    Exit status: 0 the agent answered, 1 it did not, 2 configuration error.
    """
    borrow_credentials(config)
    loaded = load(config)
    try:
        answer = ask(loaded, "status", timeout=timeout)
    except BrokerError as error:
        click.echo(f"edge-agent: {plain(str(error))}", err=True)
        ctx.exit(1)
    if as_json:
        click.echo(plain_json(answer.decode(errors="replace")))
        return
    try:
        status = read_status(answer)
    except ValueError:
        if _is_busy(answer):
            click.echo("edge-agent: the agent is getting too many requests; try again in a second", err=True)
            ctx.exit(1)
        click.echo(f"edge-agent: an agent of another version answered {cut(answer)}; --json shows all of it", err=True)
        ctx.exit(1)
    for line in _lines(status):
        click.echo(plain(line))


def _is_busy(answer: bytes) -> bool:
    try:
        validator(Busy).validate_json(answer)
    except ValidationError:
        return False
    return True


def _lines(status: Status) -> Iterator[str]:
    """Yield the answer for people."""
    latency = status["latency_ms"]
    kinds = ", ".join(f"{count} {code}" for code, count in sorted(status["rejections"].items()))
    doubtful = status.get("outside", 0), status.get("uncertain", 0)  # older agents do not count them
    rows = [
        ("node", f"{status['node']}: edge-agent {status['agent']}, MQTT {status['mqtt']}"),
        ("state", plain(status["state"] if status["reason"] is None else f"{status['state']}: {status['reason']}")),
        ("up", f"{duration(status['uptime'])}, {count(status['connections'], 'connection')}"),
        ("received", f"{status['received']} ({status['messages_per_second']:g} a second)"),
        ("", f"{status['redelivered']} redelivered, {status['unrouted']} without a route"),
        ("predictions", f"{status['predictions']} ({status['predictions_per_second']:g} a second)"),
        *([("", f"{doubtful[0]} outside of training, {doubtful[1]} uncertain")] if any(doubtful) else []),
        ("rejections", kinds or "none"),
        (
            "answered",
            f"{status['answered']}, {status['refused']} refused by the broker, {status['in_flight']} in flight",
        ),
        *([("poisoned", f"{status['poisoned']} whose answer ended the connection")] if status["poisoned"] else []),
        *([("faults", f"{count(status['faults'], 'internal error')}, see its log")] if status["faults"] else []),
        ("latency", f"p50 {latency['p50']:g} ms, p99 {latency['p99']:g} ms" if latency else "no message lately"),
        ("memory", f"{status['rss_bytes'] / 2**20:.0f} MiB"),
    ]
    if (gathered := status.get("gathering")) is not None:
        rows.append(
            ("sensors", f"{gathered['sensors']}, {gathered['complete']} complete, {gathered['forgotten']} forgotten")
        )
        rows.append(("ignored", f"{count(gathered['ignored'], 'message')} on topics that map to no feature"))
    for what, value in rows:
        yield f"{what:<11} {value}"
    if (drift := status.get("drift")) is not None:
        yield ""
        yield from _drift(drift)
    if gathered is not None and gathered["waiting"]:
        yield ""
        yield from _waiting(gathered)


def _drift(drift: Drift) -> Iterator[str]:
    """Yield what differs from training, a line for each model, each column that has drifted and each odd sensor."""
    hours = drift["window_hours"]
    for model in drift["models"]:
        state, seen = plain(model["state"]), count(model["rows"], "row")
        told = f"{state}, {min(model['hours'], hours):.1f} of {hours:g} h" if state == "collecting" else state
        since = f" since {plain(model['since'])}" if model["since"] else ""
        yield f"{'drift':<11} {plain(model['name'])} {plain(model['version'])}: {told}{since}, {seen}, against {plain(model['against'])}"
        for column in (*model["features"], *model["answers"]):
            if column["drifted"]:
                index = "" if column["psi"] is None else f" (PSI {column['psi']:.2f})"
                yield f"{'':<11} {plain(column['name'])}: {plain(column['how'])}{index}"
        for sensor in model["sensors"]:
            yield f"{'':<11} {plain(sensor['topic'])}: {plain(sensor['feature'])}: {plain(sensor['how'])}"


def _waiting(gathered: Gathered) -> Iterator[str]:
    table = [("waiting for", "missing", "too old")]
    table += [
        (plain(one["topic"]), plain(", ".join(one["missing"])) or "-", plain(", ".join(one["stale"])) or "-")
        for one in gathered["waiting"]
    ]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    table.insert(1, ("-" * widths[0], "-" * widths[1], "-" * widths[2]))
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    more = gathered["sensors"] - gathered["complete"] - len(gathered["waiting"])
    if more > 0:
        yield f"and {more} more"
