"""`edge-agent run`."""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.config.load import DEFAULT_FILE, load
from edge_agent.config.models import loading, store
from edge_agent.config.precautions import neglected
from edge_agent.errors import EdgeAgentError
from edge_agent.host import logs
from edge_agent.host.process import Signals, return_large_blocks
from edge_agent.host.systemd import Notifier
from edge_agent.model.library import Loaded
from edge_agent.model.watching import Watching

if TYPE_CHECKING:
    from edge_agent.assembly import Preparation
    from edge_agent.serving.agent import Agent
    from edge_agent.serving.released import Wish
    from edge_agent.serving.reloading import Reloads

_log = logging.getLogger(__name__)

#: Seconds to wait for another process that changes the store.
_PATIENCE = 2.0


@click.command(name="run")
@click.option(
    "--config",
    # `load` reports a missing or unreadable file.
    type=click.Path(path_type=Path, readable=False),
    help=f"Configuration file.  [default: {DEFAULT_FILE}, when it is there]",
)
def command(config: Path | None) -> None:
    """Serve: answer messages from the broker until told to stop.

    Without a configuration, it serves the bundled model `genre` from the broker on localhost:1883, with features on
    music/{sensor}/features. SIGTERM or Ctrl-C finishes the messages in flight, publishes `offline` and exits with 0.
    SIGHUP reloads settings and models; invalid ones are rejected, and the agent goes on with the old ones. The
    connection is kept unless its own settings changed.
    """
    return_large_blocks()
    with Signals(children=True) as signals, ExitStack() as stack:
        begun = _begin(config, signals, stack)
        if begun is None:
            return
        agent, reloads = begun
        with reloads:
            while agent.run(signals, reloads.asks):
                if reloads.see_to(signals):
                    # What was replaced is in reference cycles. It takes less than a millisecond, because all else is frozen.
                    gc.collect()


def _begin(config: Path | None, signals: Signals, stack: ExitStack) -> tuple[Agent, Reloads] | None:
    """Return the agent with its models loaded; None when told to stop before that. `stack` notes how this run ends."""
    try:
        loaded = load(config)
        logs.set_up(loaded.log.level)
        for line in neglected(loaded):
            _log.warning("%s", line)
        stack.enter_context(Watching(store(loaded, _PATIENCE), follows=bool(loaded.update.channel)))
        begun = loading(loaded)
        # The models are tested in another process; meanwhile, import what connects and serves.
        from edge_agent import assembly
        from edge_agent.serving.reloading import Noticing, Reloads, load_models

        # All that is imported stays, so the garbage collector need not look at it again. Models and what is made of them may go.
        gc.freeze()
        models = load_models(begun, signals)
        if models is None:
            return None
        agent = assembly.make_agent(loaded, models)
    except EdgeAgentError as error:
        # `systemctl start` can't show it, but refers to `systemctl status`.
        Notifier().status(f"can't start: {error}")
        raise

    def prepare(known: Collection[Loaded]) -> Preparation:
        return assembly.Preparation(load(config), known)

    def again(known: Collection[Loaded], wish: Wish | None) -> Preparation:
        return assembly.Preparation(loaded, known, wish=wish)

    return agent, Reloads(agent, prepare, models, again, Noticing(store(loaded).stamp))
