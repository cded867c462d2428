"""`edge-deploy`: models to a fleet, and back. Options in, sentences out; the work is in the modules beside it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from edge_deploy import broker, waves
from edge_deploy.broker import Login
from edge_deploy.channel import Channel, Current, joined, needed, require_fit
from edge_deploy.events import Lines, Say, json_lines
from edge_deploy.nodes import FILTERS, Nodes
from edge_deploy.options import FILE
from edge_deploy.options import login as login_options
from edge_deploy.release import Bundle
from edge_deploy.rollout import Outcome, Rollout
from edge_deploy.standing import Limits
from edge_deploy.status import HEADING, rows, summary
from edge_deploy.wire import Wire, kept
from edge_deploy.wording import some, table

from edge_agent.contract import topics
from edge_agent.contract.manifest import Envelope, versions
from edge_agent.contract.messages import Message
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.wording import count, plain

#: What a roll-out's end is for the shell; the last one is what shells have for an interruption.
_STATUS: Final = {
    Outcome.DONE: 0,
    Outcome.NOBODY: 1,
    Outcome.TAKEN_BACK: 1,
    Outcome.INCOMPLETE: 1,
    Outcome.STOPPED: 1,
    Outcome.SUPERSEDED: 1,
    Outcome.INTERRUPTED: 130,
}
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class _Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic from click 8.3 on
    """A time with its unit, such as 10m; seconds without one."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        text = str(value).strip()
        number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
        try:
            found = float(number) * _UNITS[unit]
        except ValueError:
            found = -1.0
        if not 0 <= found <= 30 * _UNITS["d"]:
            self.fail(f"{plain(text)!r} is no time; write 90s, 10m, 2h or 1d", param, ctx)
        return found


class _ChannelName(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic from click 8.3 on
    """The name of a channel: a level of its topics, so no wildcard and no other level gets into them."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it, checked."""
        text = str(value)
        if not topics.is_channel(text):
            self.fail(f"{plain(text[:_SHOWN])!r} is no channel: {topics.CHANNEL_WORDS}", param, ctx)
        return text


DURATION: Final = _Duration()
CHANNEL: Final = _ChannelName()
#: Of what is refused, so many characters are shown.
_SHOWN: Final = 80
_CHANNEL: Final = click.option(
    "--channel", type=CHANNEL, help="The channel, which has to be the one that was signed.  [default: that]"
)
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print lines of JSON.")


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except EdgeAgentError as error:
            click.echo(f"edge-deploy: {plain(str(error))}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt:
            click.echo("edge-deploy: interrupted; run the same command again to go on", err=True)
            ctx.exit(_STATUS[Outcome.INTERRUPTED])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Take models to the nodes of a channel over MQTT, and back.

    MODEL is a model file that edge-convert sign --channel has written a release for: MODEL.release lies beside it. No key is
    needed here.

    Exit status: 0 success, 1 a roll-out was stopped or taken back, 2 usage, 3 model or release unusable, 4 broker, 130 interrupted.
    """


@main.command()
@click.argument("model", type=FILE)
@_CHANNEL
@click.option(
    "--wave",
    "wave",
    metavar="A,B,...",
    help="Only for these nodes: ids, patterns of ids, shares such as 10%; none: publish nothing but the files.  [default: all that the release names]",
)
@login_options
def push(model: Path, channel: str | None, wave: str | None, login: Login) -> None:
    """Publish a model and its manifest: all nodes that the release names take it at once.

    Nodes that the same release is published for already stay in it: --wave adds to them.

    The pieces of the model files come first, as retained messages; what the broker has already is not sent again. To go node by node,
    and back on trouble, use rollout instead.
    """
    bundle = Bundle.open(model, channel)
    bundle.forward.require_unexpired(time.time())
    named = None if wave is None else _entries(wave)
    with _connected(login) as wire:
        there = Channel(bundle.channel, wire)
        current = there.current()
        require_fit(current, bundle.forward)
        _push(there, bundle, click.echo)
        if named == ():
            click.echo("the manifest is not published (--wave none): edge-deploy rollout does that")
            return
        named = joined(current, bundle.forward, named)
        there.announce(bundle.forward, named)
    whom = "all nodes that the release names" if named is None else some(named)
    click.echo(f"published {bundle.forward.title} on {there.topic}, serial {bundle.forward.serial}, for {whom}")


@main.command()
@click.argument("model", type=FILE)
@_CHANNEL
@click.option(
    "--waves",
    "plan",
    default="1,10%,100%",
    show_default=True,
    help="Which nodes, one wave after the other: so many (1), a share of all (10%), a node's id or a pattern of ids.",
)
@click.option(
    "--pause", type=DURATION, default="10m", show_default=True, help="How long a wave is watched before the next one."
)
@click.option(
    "--max-refused",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How many nodes of a wave may refuse, go back, fail or vanish before all is taken back.",
)
@click.option(
    "--within",
    type=DURATION,
    default="15m",
    show_default=True,
    help="How long a node that is online may take, beside the soak of the release.",
)
@click.option(
    "--grace", type=DURATION, default="2m", show_default=True, help="How long a node may be offline in between."
)
@_JSON
@login_options
@click.pass_context
def rollout(  # noqa: PLR0917 - one for each option
    ctx: click.Context,
    model: Path,
    channel: str | None,
    plan: str,
    pause: float,
    max_refused: int,
    within: float,
    grace: float,
    login: Login,
    *,
    as_json: bool,
) -> None:
    """Publish a model to wave after wave of nodes, and take it back on trouble.

    A wave is over when all of its nodes that are online have committed, and nothing went wrong in the pause after it. Nodes that are
    away take the release when they come back. Ctrl-C leaves the fleet where it is; the same command goes on from there.
    """
    bundle = Bundle.open(model, channel)
    bundle.forward.require_unexpired(time.time())
    parsed = waves.parse(plan)
    say = _say(as_json=as_json)
    with _connected(login) as wire:
        there = Channel(bundle.channel, wire)
        require_fit(there.current(), bundle.forward)
        _push(there, bundle, lambda text: None if as_json else click.echo(text))
        outcome = Rollout(bundle, there, wire, say, limits=Limits(pause, within, grace, max_refused)).run(parsed)
    ctx.exit(_STATUS[outcome])


@main.command("take-back")
@click.argument("model", type=FILE)
@_CHANNEL
@click.option("--within", type=DURATION, default="15m", show_default=True, help="How long to watch the nodes go back.")
@_JSON
@login_options
@click.pass_context
def take_back(
    ctx: click.Context, model: Path, channel: str | None, within: float, login: Login, *, as_json: bool
) -> None:
    """Publish the way back that was signed with a release (edge-convert sign --back), for all nodes that it went to.

    Exit status 1 while a node that is not away has not gone back, 0 otherwise.
    """
    bundle = Bundle.open(model, channel)
    if bundle.back is not None:
        bundle.back.require_unexpired(time.time())
    with _connected(login) as wire:
        there = Channel(bundle.channel, wire)
        if bundle.back is not None:
            _push(there, bundle, lambda text: None if as_json else click.echo(text))
        outcome = Rollout(bundle, there, wire, _say(as_json=as_json), limits=Limits(within=within)).take_back()
    ctx.exit(0 if outcome is Outcome.TAKEN_BACK else _STATUS[outcome])


@main.command()
@click.option("--channel", type=CHANNEL, help="Also show what this channel has, and which nodes lack it.")
@click.option(
    "--wait",
    type=DURATION,
    default="1s",
    show_default=True,
    help="How long the broker may be silent before all is known.",
)
@_JSON
@login_options
def status(channel: str | None, wait: float, login: Login, *, as_json: bool) -> None:
    """Show which node serves which model, since when, and why."""
    nodes = Nodes()
    with _connected(login) as wire:
        current = Current() if channel is None else Channel(channel, wire).current()

        def take(message: Message) -> bool:
            nodes.take(message, time.monotonic())
            return False

        kept(wire, FILTERS[:2], take, quiet=wait)
    found = rows(nodes, current)
    if as_json:
        for row in found:
            click.echo(json.dumps(row._asdict()))
        return
    if channel is not None:
        click.echo(_shown(channel, current))
    if not found:
        click.echo("no node has said anything on this broker (edge/+/state, edge/+/model/+ are empty)")
        return
    click.echo("\n".join(table([HEADING, *(row.cells() for row in found)])))
    click.echo(summary(nodes, current))


@main.command()
@click.argument("models", type=FILE, nargs=-1)
@click.option("--channel", type=CHANNEL, required=True, help="The channel.")
@click.option("--all", "everything", is_flag=True, help="Clear all files of a channel that has no manifest.")
@click.option("--dry-run", is_flag=True, help="Only say what would be cleared.")
@login_options
def prune(models: tuple[Path, ...], channel: str, login: Login, *, everything: bool, dry_run: bool) -> None:
    """Clear the pieces of model files that the channel's manifest does not name.

    Give the MODELS whose releases are still of use, for the way back: their files stay.
    """
    bundles = [Bundle.open(model, channel) for model in models]
    keep = [signed.manifest for bundle in bundles for signed in (bundle.forward, bundle.back) if signed is not None]
    with _connected(login) as wire:
        there = Channel(channel, wire)
        stale = there.stale(needed(there.current(), keep, there.topic, everything=everything))
        if not dry_run:
            there.clear(stale)
    files = len({topic.rpartition("/")[0] for topic in stale})
    click.echo(f"{'would clear' if dry_run else 'cleared'} {count(len(stale), 'piece')} of {count(files, 'file')}")


@contextmanager
def _connected(login: Login) -> Iterator[Wire]:
    wire = broker.connect(login)
    try:
        yield wire
    finally:
        wire.close()


def _push(channel: Channel, bundle: Bundle, say: Callable[[str], object]) -> None:
    pushed = channel.push(bundle)
    for one in bundle.absent:
        say(f"{one.name} {one.version}: its file is not here; nodes that go back to it need to have it still")
    say(
        f"{count(len(bundle.models), 'model file')}: {count(pushed.sent, 'piece')} published ({pushed.bytes_sent} bytes), "
        f"{pushed.there} there already; the broker keeps them"
    )


def _say(*, as_json: bool) -> Say:
    return json_lines() if as_json else Lines(time.monotonic)


def _entries(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    parts = tuple(part.strip() for part in text.split(","))
    try:
        return Envelope(manifest="", wave=parts).wave or ()
    except ValueError:
        raise InputError(
            f"--wave {plain(text)}: write ids of nodes, patterns of ids or shares, with commas between them: pi-1,hall-*,10%"
        ) from None


def _shown(channel: str, current: Current) -> str:
    if current.fault is not None:
        return f"channel {plain(channel)}: {plain(current.fault)}"
    if current.manifest is None or current.envelope is None:
        return f"channel {plain(channel)}: no manifest"
    wave = current.envelope.wave
    whom = "all" if wave is None else some(wave) or "no node"
    return f"channel {channel}: {versions(current.manifest.models)}, serial {current.serial}, issued {current.manifest.issued or 'on a day that it does not tell'}, for {some(current.manifest.meant)}, wave: {whom}"
