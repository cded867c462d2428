"""`edge-agent demo`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import click

from edge_agent.config.load import load
from edge_agent.config.models import library
from edge_agent.errors import InputError
from edge_agent.host.process import Signals
from edge_agent.wording import plain


@click.command(name="demo")
@click.option("--seconds", type=click.FloatRange(min=1, max=3600), default=15.0, show_default=True, help="Duration.")
@click.option(
    "--model", default="genre", show_default=True, help="Model file (*.onnx), or the name of an installed one."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed sends the same readings.")
@click.pass_context
def command(ctx: click.Context, seconds: float, model: str, seed: int) -> None:
    """Run a broker, the agent and simulated sensors for fifteen seconds.

    Starts a broker on a free port of this machine and the real agent, simulates five sensors that send plausible
    readings and an occasional broken one, and shows the answers. One sensor sends only what has changed, and one splits
    its readings over two topics. It touches nothing else on the machine. Ctrl-C stops it early.

    Exit status: 0 every message was answered, 1 some were not.
    """
    missing = [name for name in ("amqtt", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"demo needs {' and '.join(missing)}: in a clone, ./scripts/demo installs them; "
            f"elsewhere, install them into edge-agent's virtual environment: pip install {' '.join(missing)}"
        )
    from edge_agent.demo.scene import Scene
    from edge_agent.demo.view import PlainView, TableView

    predictor = library(load()).load(model)
    card, output = predictor.card, predictor.output
    title = f"{card.name} {card.version}: {output.summary}"
    scene = Scene(card, output, str(Path(predictor.where).resolve()), seed=seed)
    with Signals() as signals:
        scene.play(
            seconds,
            TableView(title, output.columns) if sys.stdout.isatty() else PlainView(),
            signals.wakeup,
            lambda port: click.echo(f"broker on 127.0.0.1:{port}, agent online, model {title}\n"),
        )
    for line in scene.score.summary():
        click.echo(plain(line))
    ctx.exit(0 if scene.score.answered == scene.score.sent else 1)
