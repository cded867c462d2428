"""`edge-agent docs`: what the agent takes and publishes, for others to read."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.config.load import DEFAULT_FILE, load
from edge_agent.config.models import loading
from edge_agent.docs import asyncapi


@click.command(name="docs")
@click.option(
    "--config",
    # `load` reports a missing or unreadable file.
    type=click.Path(path_type=Path, readable=False),
    help=f"Configuration file.  [default: {DEFAULT_FILE}, when it is there]",
)
@click.option("--json", "as_json", is_flag=True, help="Write AsyncAPI 3.0 as JSON on standard output.")
def command(config: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Describe the topics and payloads of a configuration (AsyncAPI).

    --json writes AsyncAPI 3.0: the broker, a channel for each topic, and the schemas of all messages, made from the configuration
    and the model cards. It is the same that a running agent keeps on edge/{node}/docs.
    """
    if not as_json:
        raise click.UsageError("say in which form: --json")
    settings = load(config)
    models = {
        name: asyncapi.Served(one.predictor.card, one.predictor.sha256)
        for name, one in loading(settings).models().items()
    }
    click.echo(asyncapi.write(settings, models))
