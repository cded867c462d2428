"""`edge-agent run`."""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.config.load import DEFAULT_FILE, load
from edge_agent.config.models import loading
from edge_agent.config.precautions import neglected
from edge_agent.errors import EdgeAgentError
from edge_agent.host import logs
from edge_agent.host.process import Signals
from edge_agent.host.systemd import Notifier
from edge_agent.model.library import Loaded

if TYPE_CHECKING:
    from edge_agent.assembly import Preparation
    from edge_agent.serving.agent import Agent
    from edge_agent.serving.reloading import Reloads

_log = logging.getLogger(__name__)


@click.command(name="run")
@click.option(
    "--config",
    # What it is, and whether it can be read, is for `load` to say.
    type=click.Path(path_type=Path, readable=False),
    help=f"Configuration file.  [default: {DEFAULT_FILE}, when it is there]",
)
def command(config: Path | None) -> None:
    """Serve: answer messages from the broker until told to stop.

    With no configuration at all: the bundled model `genre`, the broker on localhost:1883, features on
    music/{sensor}/features. SIGTERM or Ctrl-C finishes what is in flight, says `offline`, and ends with 0. SIGHUP takes
    new settings and models up, on the same connection unless its own settings changed; when they can't be used,
    everything stays as it was.
    """
    with Signals(children=True) as signals:
        begun = _begin(config, signals)
        if begun is None:
            return
        agent, reloads = begun
        with reloads:
            # All of this stays: the garbage collector need not look at it again and again.
            gc.freeze()
            while agent.run(signals):
                if reloads.see_to(signals):
                    # Until now, that was: what it leaves in cycles, models among it, would stay for good.
                    gc.unfreeze()
                    gc.collect()
                    gc.freeze()


def _begin(config: Path | None, signals: Signals) -> tuple[Agent, Reloads] | None:
    """Return the agent, with its models loaded; None when told to stop meanwhile."""
    try:
        loaded = load(config)
        logs.set_up(loaded.log.level)
        for line in neglected(loaded):
            _log.warning("%s", line)
        begun = loading(loaded)
        # The models are tried beside us: time to import what connects and serves.
        from edge_agent import assembly
        from edge_agent.serving.reloading import Reloads, load_models

        models = load_models(begun, signals)
        if models is None:
            return None
        agent = assembly.make_agent(loaded, models)
    except EdgeAgentError as error:
        # `systemctl start` can't show it, and says to look at `systemctl status`.
        Notifier().status(f"can't start: {error}")
        raise

    def prepare(known: Collection[Loaded]) -> Preparation:
        return assembly.Preparation(load(config), known)

    return agent, Reloads(agent, prepare, models)
