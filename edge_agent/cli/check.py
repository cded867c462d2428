"""`edge-agent check`: shows the doctor's findings (`edge_agent.doctor`), as text or JSON."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import click

from edge_agent import assembly, doctor
from edge_agent.config.load import DEFAULT_FILE, load, sources
from edge_agent.doctor import inside
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.findings import Finding, failed, ok
from edge_agent.doctor.reach import explain_configuration
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.host.device import Device
from edge_agent.host.systemd import borrow_credentials
from edge_agent.wording import plain, plain_json

_COLOURS: Final = {"ok": "green", "note": "yellow", "fail": "red"}
_WIDTH_OF_WHAT: Final = 13
_INDENT: Final = " " * (4 + 2 + _WIDTH_OF_WHAT + 2)


@click.command(name="check")
@click.option(
    "--config",
    # `load` reports a missing or unreadable file.
    type=click.Path(path_type=Path, readable=False),
    help=f"Configuration file.  [default: {DEFAULT_FILE}, when it is there]",
)
@click.option("--quick", is_flag=True, help="Only test whether the running agent answers: for health checks.")
@click.option("--offline", is_flag=True, help="Only load configuration and models, as a start or reload would.")
@click.option("--quiet", is_flag=True, help="Print only problems that must be fixed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with status and findings.")
@click.option(
    "--as-service", is_flag=True, hidden=True, help="Used by `check` to call itself inside the service's sandbox."
)
@click.pass_context
def command(
    ctx: click.Context,
    config: Path | None,
    *,
    quick: bool,
    offline: bool,
    quiet: bool,
    as_json: bool,
    as_service: bool,
) -> None:
    """Check machine, models, broker and service; say how to fix problems.

    Connects under another client id, so a running agent is not disturbed. To test the broker's access rules, it
    publishes an empty message to each input topic, with "edge-agent-check" in place of {sensor}; a running agent
    does not answer it. Nothing is published to outputs, and the agents of a pool lose no message. --offline contacts neither broker nor service. When run
    as root it checks as the service's user, in the service's sandbox and with its credentials, and also reports what
    the service writes to disk.

    Exit status: 0 no problem, 1 something must be fixed, 2 configuration error, 3 model unusable.
    """
    if quick and offline:
        raise InputError("--quick and --offline exclude each other; use one of them")
    if as_service:
        click.echo(_seen_inside(config))
        return
    borrow_credentials(config)
    found: list[Finding] = []
    for finding in _examine(config, quick=quick, offline=offline):
        found.append(finding)
        if not as_json and not (quiet and finding.verdict != "fail"):
            _show(finding)
    if as_json:
        click.echo(plain_json(json.dumps(_report(found), ensure_ascii=False)))
    ctx.exit(max(finding.exit_status for finding in found))


def _examine(config: Path | None, *, quick: bool, offline: bool) -> Iterator[Finding]:
    try:
        loaded = load(config)
        where, source = assembly.address(loaded), _source(config)
    except EdgeAgentError as error:
        yield failed("configuration", error)
        return
    first = ok("configuration", f"{source}; node {loaded.node.id}, broker {where}")
    if quick:
        rest = doctor.examine_quickly(loaded)
    elif offline:
        rest = doctor.examine_offline(loaded)
    else:
        rest = doctor.examine(loaded, config, Device())
    yield from chain((first,), rest)


def _seen_inside(config: Path | None) -> str:
    advice, trained = Advice.about(config), dict[str, str]()
    try:
        loaded = load(config)
    except EdgeAgentError as error:
        closed = filter(None, map(explain_configuration, _read(config)))
        return inside.report([next(closed, failed("configuration", error))], trained)
    found = [*inside.check_user(), *inside.examine(loaded, advice, trained, as_service=True)]
    return inside.report(found, trained)


def _read(config: Path | None) -> list[Path]:
    """Return the files that are read, as far as they are known."""
    try:
        return sources(config)
    except EdgeAgentError:
        return [config or DEFAULT_FILE]


def _source(config: Path | None) -> str:
    return ", ".join(str(file) for file in sources(config)) or "built-in defaults"


def _report(found: list[Finding]) -> dict[str, object]:
    verdicts = {finding.verdict for finding in found}
    worst = next(verdict for verdict in ("fail", "note", "ok") if verdict in verdicts)
    return {"status": worst, "findings": [finding._asdict() for finding in found]}


def _show(finding: Finding) -> None:
    verdict = finding.verdict if finding.verdict != "fail" else "FAIL"
    message = plain(" ".join(finding.message.split()))
    if sys.stdout.isatty():
        # In a file or a pipe each finding is one line; on a terminal long ones wrap within their column.
        room = max(40, shutil.get_terminal_size().columns - len(_INDENT) - 1)
        message = f"\n{_INDENT}".join(textwrap.wrap(message, room, break_long_words=False, break_on_hyphens=False))
    click.echo(
        f"{click.style(verdict.ljust(4), fg=_COLOURS[finding.verdict])}  {finding.what:<{_WIDTH_OF_WHAT}}  {message}"
    )
    if finding.mend is not None:
        # Not wrapped, so that commands can be copied.
        click.echo(f"{_INDENT}{click.style('->', bold=True)} {plain(finding.mend)}")
