"""`edge-agent demo`."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import Final

import click

from edge_agent.config.load import load
from edge_agent.config.models import library
from edge_agent.errors import InputError
from edge_agent.host.process import Signals
from edge_agent.page import page
from edge_agent.wording import plain

#: Seconds that it takes, and that it takes with the page: enough to look around.
_DURATION: Final = 15.0
_DURATION_WITH_PAGE: Final = 600.0


@click.command(name="demo")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1, max=3600),
    help=f"Duration.  [default: {_DURATION:g}, with --page {_DURATION_WITH_PAGE:g}]",
)
@click.option(
    "--model", default="genre", show_default=True, help="Model file (*.onnx), or the name of an installed one."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed sends the same readings.")
@click.option("--page", "with_page", is_flag=True, help="Serve the page to try the model and to watch, too.")
@click.pass_context
def command(ctx: click.Context, seconds: float | None, model: str, seed: int, with_page: bool) -> None:  # noqa: FBT001 - click's way
    """Run a broker, the agent and simulated sensors for fifteen seconds.

    Starts a broker on a free port of this machine and the real agent, simulates five sensors that send plausible
    readings and an occasional broken one, and shows the answers. One sensor sends only what has changed, and one splits
    its readings over two topics. It touches nothing else on the machine. Ctrl-C stops it early.

    With --page the broker also takes WebSockets, and the page of `edge-agent docs` is served on this machine, for ten
    minutes: open the address that is printed, try the model with sliders, and watch all sensors in the live view.

    Exit status: 0 every message was answered, 1 some were not.
    """
    missing = [name for name in ("amqtt", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"demo needs {' and '.join(missing)}: in a clone, ./scripts/demo installs them; "
            f"elsewhere, install them into edge-agent's virtual environment: pip install {' '.join(missing)}"
        )
    from edge_agent.demo.scene import Scene, free_port
    from edge_agent.demo.view import PlainView, TableView
    from edge_agent.demo.web import served

    predictor = library(load()).load(model)
    card, output = predictor.card, predictor.output
    title = f"{card.name} {card.version}: {output.summary}"
    scene = Scene(card, output, str(Path(predictor.where).resolve()), seed=seed)
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals(reloads=False))
        websockets, address = None, None
        if with_page:
            websockets = free_port()
            # With its address the page connects to a broker on the same machine by itself.
            address = f"{stack.enter_context(served(page()))}#broker=ws://127.0.0.1:{websockets}/"

        def ready(port: int) -> None:
            click.echo(f"broker on 127.0.0.1:{port}, agent online, model {title}")
            click.echo(f"the page, in a browser on this machine: {address}   (Ctrl-C ends it)\n" if address else "")

        scene.play(
            seconds or (_DURATION_WITH_PAGE if with_page else _DURATION),
            TableView(title, output.columns) if sys.stdout.isatty() else PlainView(),
            signals.wakeup,
            ready,
            websockets=websockets,
        )
    for line in scene.score.summary():
        click.echo(plain(line))
    ctx.exit(0 if scene.score.answered == scene.score.sent else 1)
