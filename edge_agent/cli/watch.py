"""`edge-agent watch`: shows live what the agents on a broker answer."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from edge_agent import assembly
from edge_agent.client import log_in
from edge_agent.config.load import DEFAULT_FILE, load
from edge_agent.config.settings import Settings
from edge_agent.contract.messages import Message
from edge_agent.errors import InputError
from edge_agent.host.process import Signals
from edge_agent.host.systemd import borrow_credentials
from edge_agent.link.link import Link
from edge_agent.watching import figures
from edge_agent.watching.known import MOST_INFO, Known
from edge_agent.watching.lines import All, LineView, Source
from edge_agent.watching.loop import Connect, Watch
from edge_agent.watching.output import Output
from edge_agent.watching.view import Noted, View
from edge_agent.watching.way import Way


@click.command(name="watch")
@click.option(
    "--config",
    # `load` reports a missing or unreadable file.
    type=click.Path(path_type=Path, readable=False),
    help=f"Configuration file of an agent on the broker.  [default: {DEFAULT_FILE}, when it is there]",
)
@click.option("--node", help="Show one node only, by its id.  [default: all nodes]")
@click.option(
    "--topic",
    help="Follow the messages on this topic, of a sensor or of its answers, and what becomes of each; + and # are allowed.",
)
@click.option("--seconds", type=click.FloatRange(min=0.1), help="End after so many seconds.  [default: with Ctrl-C]")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each event.")
@click.pass_context
def command(
    ctx: click.Context,
    config: Path | None,
    node: str | None,
    topic: str | None,
    seconds: float | None,
    *,
    as_json: bool,
) -> None:
    """Show live what the agents on a broker answer.

    On a terminal it is a table: the nodes with state, rates, latency and rejections, and the sensors with their latest label or
    value, its confidence and age, and what is wrong or in doubt about it. In a pipe, or without the library rich, it is one line
    per event. With --topic it is what one sensor sends, what is answered, and the time between.

    Connects to the agent's broker under another client id, subscribes, and publishes nothing. When run as root it uses the
    service's credentials. A broker that is away is tried again. Ctrl-C ends it.

    Exit status: 0 it was ended, 1 it never had a connection, 2 configuration error.
    """
    if node is not None and (not node or any(mark in node for mark in "/+#\0")):
        raise InputError(f"--node {node!r}: not the id of a node; without --node all nodes are shown")
    borrow_credentials(config)
    loaded = load(config)
    broker = str(assembly.address(loaded))
    known = Known(node)
    view = _view(known, broker, node, as_json=as_json) if topic is None else _lines(Way(known, topic), as_json=as_json)
    with Signals(reloads=False) as signals, _noting(view):
        watch = Watch(_connector(loaded, known, node), view, signals, broker=broker, seconds=seconds)
        watch.run()
    ctx.exit(0 if watch.connected or signals.received else 1)


def _view(known: Known, broker: str, node: str | None, *, as_json: bool) -> View:
    """Return a table for a terminal, lines for everything else."""
    if not as_json and sys.stdout.isatty():
        if importlib.util.find_spec("rich") is not None:
            from edge_agent.watching.table import TableView, is_able

            if is_able():
                return TableView(known, broker, node)
        else:
            click.echo(
                "edge-agent: the table needs rich: apt install python3-rich, or, in the agent's virtual environment, pip "
                "install rich; until then, here is one line per event",
                err=True,
            )
    return _lines(All(known, figures.hint(node)), as_json=as_json)


def _lines(source: Source, *, as_json: bool) -> LineView:
    return LineView(source, Output(sys.stdout.fileno(), sys.stdout.encoding), as_json=as_json)


def _connector(loaded: Settings, known: Known, node: str | None) -> Connect:
    terms = assembly.make_terms(loaded)
    # Several may watch with the same configuration, and in containers process ids are few: one would end the other's connection.
    purpose = f"watch-{secrets.token_hex(4)}"
    own = loaded.node.id
    routes = [
        {
            "model": route.model,
            "subscribe": route.inputs_text,
            "publish": route.publish.text,
            "errors": route.errors.text,
            "gathers": route.gathers,
        }
        for route in loaded.routes()
    ]

    def connect(filters: Sequence[str]) -> tuple[Link, list[Message]]:
        # At QoS 0 the broker has nothing to keep for who only looks.
        link, early = log_in(loaded, filters, purpose=purpose, terms=terms, qos=0, max_payload=MOST_INFO)
        keeps = link.granted.retain_available and loaded.mqtt.retain is not False
        if not keeps and node in {None, own}:
            # Nobody can tell us now what the agent said when it connected; but this is its configuration.
            known.take(own, {"routes": routes})
        return link, early

    return connect


class _Notes(logging.Handler):
    """Shows what the connection warns of in the view: a table has no place for lines of a log."""

    def __init__(self, view: View) -> None:
        super().__init__(logging.WARNING)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        self._view.tell(Noted(record.getMessage()))


@contextlib.contextmanager
def _noting(view: View) -> Iterator[None]:
    logger, handler = logging.getLogger("edge_agent"), _Notes(view)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
