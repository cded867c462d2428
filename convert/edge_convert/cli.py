"""`edge-convert`: train, export, verify. Options in, sentences out; the work is in the modules beside."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge_agent.errors import EdgeAgentError, InputError


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeAgentError as error:
            click.echo(f"edge-convert: {error}", err=True)
            ctx.exit(error.exit_status)


_FILE = click.Path(path_type=Path)
_SEED = click.IntRange(0, 2**32 - 1)  # edge_convert.estimators.SEEDS, which takes a second to import


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


def _names(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else ()


_TABLE = _options(
    click.option("--data", type=_FILE, help="One table with everything (.csv, .json, .parquet)."),
    click.option("--target", help="With --data: the column of labels."),
    click.option("--features", type=_FILE, help="A table of features, to be joined with --labels."),
    click.option("--labels", type=_FILE, help="A table of labels."),
    click.option("--label-column", help="With --labels: the column of labels."),
    click.option("--id-column", help="The column of ids.  [default: track_id with --features, none with --data]"),
    click.option(
        "--columns", callback=_names, metavar="A,B,...", help="Feature columns.  [default: all that are left]"
    ),
    click.option("--drop", callback=_names, metavar="A,B,...", help="Columns to leave out."),
    click.option("--classes", callback=_names, metavar="A,B,...", help="Keep the rows with these labels only."),
)

_IDENTITY = _options(
    click.option("--name", help="The model's name: one plain word.  [default: from --out]"),
    click.option("--version", default="1.0.0", show_default=True, help="The model's version (SemVer)."),
    click.option("--describe", type=_FILE, help="Feature sheet (TOML): units, bounds, examples, licence."),
    click.option("--date", help="Date in the model card, YYYY-MM-DD.  [default: SOURCE_DATE_EPOCH, or today]"),
    click.option("--seed", type=_SEED, default=0, show_default=True, help="Everything random is drawn from this."),
)


@click.group(cls=_Group)
def main() -> None:
    """From a table of numbers to one self-describing model file for edge-agent."""


@main.command()
@_TABLE
@_IDENTITY
@click.option("--out", type=_FILE, required=True, help="The model file to write (.onnx).")
@click.option("--estimator", type=click.Choice(["tree", "forest", "boosting"]), default="tree", show_default=True)
@click.option(
    "--repeats", type=click.IntRange(min=0), default=1, show_default=True, help="0 leaves the evaluation out."
)
@click.option("--folds", type=click.IntRange(min=2), default=10, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: as many as processors]")
@click.option("--report", type=_FILE, help="Also write the figures and plots as one HTML file.")
@click.option("--metrics", type=_FILE, help="Also write the figures as JSON.")
@click.option("--save-estimator", type=_FILE, help="Also write scikit-learn's estimator (.skops).")
def train(out: Path, **options: Any) -> None:
    """Train on a table, evaluate, prove and write OUT."""
    from edge_convert import training

    _require_place(out, ".onnx")
    for other, ending in (("report", ".html"), ("metrics", ".json"), ("save_estimator", ".skops")):
        if options[other] is not None:
            _require_place(options[other], ending)
    identity = _identity(out, options)
    table = _read(options, labelled=True)
    result = training.train(
        table,
        _sheet(table, options),
        identity,
        kind=options["estimator"],
        repeats=options["repeats"],
        folds=options["folds"],
        seed=options["seed"],
        jobs=options["jobs"],
        say=click.echo,
    )
    _write(out, result.content)
    if options["save_estimator"] is not None:
        _write(options["save_estimator"], result.estimator_file())
    if options["metrics"] is not None:
        _write(options["metrics"], json.dumps(result.figures(), indent=2).encode() + b"\n")
    if options["report"] is not None:
        _write(options["report"], result.report().encode())


@main.command()
@click.argument("model", type=_FILE)
@_TABLE
@_IDENTITY
@click.option("--out", type=_FILE, required=True, help="The model file to write (.onnx).")
@click.option("--trust-pickle", is_flag=True, help="Open a pickle, which runs whatever code is in it.")
def export(model: Path, out: Path, *, trust_pickle: bool, **options: Any) -> None:
    """Write OUT from MODEL, an estimator or Pipeline that was trained elsewhere (.skops).

    The table is the one it was trained on: its rows are what the file is checked with, its quantiles go into the card.
    """
    from edge_convert import training
    from edge_convert.fold import inputs_of
    from edge_convert.load import load_estimator

    _require_place(out, ".onnx")
    identity = _identity(out, options)
    estimator = load_estimator(model, trust_pickle=trust_pickle)
    options["columns"] = options["columns"] or inputs_of(estimator)[1]
    table = _read(options, labelled=False)
    content = training.export(estimator, table, _sheet(table, options), identity, seed=options["seed"], say=click.echo)
    _write(out, content)


@main.command()
@click.argument("model", type=_FILE)
@click.option("--estimator", type=_FILE, required=True, help="What train --save-estimator wrote, or what export read.")
@_TABLE
@click.option("--rows", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Rows to generate.")
@click.option("--seed", type=_SEED, default=0, show_default=True, help="The generated rows are drawn from this.")
@click.option("--trust-pickle", is_flag=True, help="Open a pickle, which runs whatever code is in it.")
def verify(model: Path, estimator: Path, rows: int, seed: int, *, trust_pickle: bool, **options: Any) -> None:
    """Compare MODEL with the scikit-learn estimator it was made from.

    On every row of the table and on generated rows, most of them on a threshold or one float32 step beside it. Exit
    status 3 if a label differs, or a probability by more than 1e-6.
    """
    from edge_convert import training
    from edge_convert.load import load_estimator

    content, card = training.read_model(model)
    options["columns"] = card.feature_names
    loaded = load_estimator(estimator, trust_pickle=trust_pickle)
    table = _read(options, labelled=False)
    training.compare(loaded, content, table, where=str(model), rows=rows, seed=seed, say=click.echo)


def _read(options: dict[str, Any], *, labelled: bool) -> Any:
    """Read the table that the options name. `labelled` asks for labels; without it they are welcome."""
    from edge_convert.tables import read_pair, read_table

    choice = {name: options[name] for name in ("columns", "drop", "classes")}
    data, features, labels = options["data"], options["features"], options["labels"]
    if data is not None and features is None and labels is None:
        if options["target"] is None and (labelled or choice["classes"]):
            raise click.UsageError("--data needs --target, the column of labels")
        return read_table(data, target=options["target"], id_column=options["id_column"], **choice)
    if data is None and features is not None and labels is not None:
        if options["label_column"] is None:
            raise click.UsageError("--labels needs --label-column")
        id_column = options["id_column"] or "track_id"
        return read_pair(features, labels, label_column=options["label_column"], id_column=id_column, **choice)
    raise click.UsageError("give either --data and --target, or --features, --labels and --label-column")


def _sheet(table: Any, options: dict[str, Any]) -> Any:
    from edge_convert.describe import sheet_for

    return sheet_for(table.feature_names, options["describe"])


def _identity(out: Path, options: dict[str, Any]) -> Any:
    from edge_convert.modelcard import Identity

    return Identity(options["name"] or out.stem, options["version"], _date(options["date"]))


def _date(given: str | None) -> str:
    """Return the date for the card: given, else that of SOURCE_DATE_EPOCH (reproducible-builds.org), else today."""
    try:
        if given is not None:
            return dt.date.fromisoformat(given).isoformat()
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        now = dt.datetime.now(dt.UTC) if epoch is None else dt.datetime.fromtimestamp(int(epoch), dt.UTC)
        return now.date().isoformat()
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{given or 'SOURCE_DATE_EPOCH'!r} is not a date like 2026-01-31") from None


def _require_place(path: Path, ending: str) -> None:
    """Complain before the work, not after it."""
    if path.suffix != ending:
        raise InputError(f"{path}: the name must end in {ending}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no directory {path.parent}")


def _write(path: Path, content: bytes) -> None:
    from edge_convert.atomic import write_atomically

    write_atomically(path, content)
    click.echo(f"wrote {path} ({len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()})")
