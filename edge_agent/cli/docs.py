"""`edge-agent docs`: what the agent takes and publishes, for others to read."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.config.load import DEFAULT_FILE, load
from edge_agent.config.models import loading
from edge_agent.docs import asyncapi
from edge_agent.docs.served import Served
from edge_agent.errors import InputError
from edge_agent.page import page


@click.command(name="docs")
@click.option(
    "--config",
    # `load` reports a missing or unreadable file.
    type=click.Path(path_type=Path, readable=False),
    help=f"Configuration file.  [default: {DEFAULT_FILE}, when it is there]",
)
@click.option("--json", "as_json", is_flag=True, help="Write AsyncAPI 3.0 as JSON on standard output.")
@click.option(
    "--out",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page that documents the topics, and on which the models are tried.",
)
def command(config: Path | None, as_json: bool, out: Path | None) -> None:  # noqa: FBT001 - click's way
    """Describe the topics and payloads of a configuration (AsyncAPI).

    --json writes AsyncAPI 3.0: the broker, a channel for each topic, and the schemas of all messages, made from the configuration
    and the model cards. It is the same that a running agent keeps on edge/{node}/docs.

    --out writes one page with all that is needed in it: it works from a disk, and from Mosquitto's http_dir. It has a form for each
    model, sends over MQTT on WebSockets, and shows all nodes on a broker live.
    """
    if not as_json and out is None:
        raise click.UsageError("say in which form: --json or --out FILE.html")
    settings = load(config)
    models = {
        name: Served(one.predictor.card, one.predictor.sha256) for name, one in loading(settings).models().items()
    }
    document = asyncapi.write(settings, models)
    if out is not None:
        written = page(document)
        try:
            out.write_bytes(written)
        except OSError as error:
            raise InputError(f"{out}: {error.strerror}") from error
        click.echo(f"{out}: {len(written) // 1000} KB; open it in a browser", err=as_json)
    if as_json:
        click.echo(document)
