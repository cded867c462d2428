"""`edge-convert`: train, export, verify. Options in, sentences out; the work is in `edge_convert.workflow`."""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypedDict, Unpack

import click

from edge_agent.errors import EdgeAgentError, InputError
from edge_convert import signing_cli
from edge_convert.options import FILE, IDENTITY, SEED, TABLE, require_place

if TYPE_CHECKING:
    from edge_convert.deciding import Decision
    from edge_convert.modelcard import Identity
    from edge_convert.tables import TableChoice


class _Group(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = shlex.join(["edge-convert", *args])  # for the report
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EdgeAgentError as error:
            click.echo(f"edge-convert: {error}", err=True)
            ctx.exit(error.exit_status)


class _TableOptions(TypedDict):
    data: Path | None
    target: tuple[str, ...]
    features: Path | None
    labels: Path | None
    label_column: str | None
    id_column: str | None
    columns: tuple[str, ...]
    drop: tuple[str, ...]
    classes: tuple[str, ...]
    sep: str | None
    decimal: str
    encoding: str | None
    missing: Literal["refuse", "drop", "native"]


class _FileOptions(_TableOptions):
    """What `train` and `export` have in common."""

    name: str | None
    version: str
    describe: Path | None
    unit: tuple[str, ...]
    date: str | None
    seed: int
    out: Path


class _TrainOptions(_FileOptions):
    task: str
    contamination: float | None
    estimator: str | None
    repeats: int
    folds: int
    jobs: int | None
    report: Path | None
    metrics: Path | None
    save_estimator: Path | None
    groups: str | None
    time: str | None
    fixed: tuple[str, ...]
    calibrate: Literal["isotonic", "sigmoid"] | None
    threshold: str | None


class _ExportOptions(_FileOptions):
    trust_pickle: bool
    label_names: tuple[str, ...]
    missing_value: float | None
    tolerance: float | None
    bounds: Literal["sheet", "data"]
    outputs: tuple[str, ...]
    scores: str | None


class _VerifyOptions(_TableOptions):
    estimator: Path
    rows: int
    seed: int
    trust_pickle: bool


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Turn a table of numbers, or a scikit-learn model, into one self-describing model file for edge-agent, and sign it."""


for _command in signing_cli.COMMANDS:
    main.add_command(_command)


@main.command()
@TABLE
@IDENTITY
@click.option("--out", type=FILE, required=True, help="The model file to write (.onnx).")
@click.option(
    "--task",
    type=click.Choice(["auto", "classification", "regression", "anomaly"]),
    default="auto",
    show_default=True,
    help="What the model answers: a label, numbers, or whether a row is an anomaly (no --target needed). auto: numbers if the target has many different ones.",
)
@click.option(
    "--contamination",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="With --task anomaly: the share of the rows to take for anomalies.  [default: what scores above 0.5]",
)
@click.option(
    "--estimator",
    type=click.Choice(["tree", "forest", "boosting", "auto"]),
    help="What to train; auto compares all by accuracy and cost. For anomalies always an isolation forest.  [default: tree]",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Repeats of the cross-validation; 0 skips it.",
)
@click.option("--folds", type=click.IntRange(min=2), default=10, show_default=True)
@click.option(
    "--set",
    "fixed",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the scikit-learn estimator that is not to be chosen, such as n_estimators=32.",
)
@click.option(
    "--calibrate",
    type=click.Choice(["isotonic", "sigmoid"]),
    help="Calibrate the probabilities on out-of-fold predictions: isotonic with many rows, sigmoid with few.",
)
@click.option(
    "--threshold",
    metavar="f1|cost=N|recall=R",
    help="Of two labels, answer the rarer one from a probability on that gives it the best F1, the least cost (missing it costs N false alarms) or a recall of R.",
)
@click.option("--groups", metavar="COL", help="Also the figures with whole groups held out: days, devices, subjects.")
@click.option("--time", metavar="COL", help="Also the figures on rows later than those trained on: when rows are from.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes to evaluate with.  [default: one, or for longer work one per processor]",
)
@click.option("--report", type=FILE, help="Also write the figures and plots, as one HTML file.")
@click.option("--metrics", type=FILE, help="Also write the figures, as JSON.")
@click.option("--save-estimator", type=FILE, help="Also write the scikit-learn estimator (.skops).")
def train(**options: Unpack[_TrainOptions]) -> None:
    """Train a model on a table, evaluate it, prove that it answers as scikit-learn does, and write it to OUT."""
    require_place(options["out"], ".onnx")
    require_place(options["report"], ".html")
    require_place(options["metrics"], ".json")
    require_place(options["save_estimator"], ".skops")
    anomaly = options["task"] == "anomaly"
    if anomaly and options["estimator"] is not None:
        raise click.UsageError("--task anomaly trains an isolation forest; remove --estimator")
    if options["estimator"] == "auto" and options["fixed"]:
        raise click.UsageError("--set is for one kind of --estimator, and auto compares several")
    choice = replace(_table(options, labelled=not anomaly), groups=options["groups"], time=options["time"])

    from edge_convert import workflow

    training = workflow.Training(
        options["estimator"] or "tree",
        options["repeats"],
        options["folds"],
        options["jobs"],
        options["task"],
        options["unit"],
        options["contamination"],
        _parameters(options["fixed"]),
        _decision(options),
    )
    trained = workflow.train(
        choice,
        options["describe"],
        _identity(options),
        training,
        options["out"],
        seed=options["seed"],
        say=click.echo,
    )
    for path, content in (
        (options["save_estimator"], trained.estimator_file),
        (options["metrics"], trained.metrics_file),
        (options["report"], lambda: trained.report_file(click.get_current_context().obj or "")),
    ):
        if path is not None:
            workflow.write(path, content(), click.echo)


@main.command()
@click.argument("model", type=FILE)
@TABLE
@IDENTITY
@click.option("--out", type=FILE, required=True, help="The model file to write (.onnx).")
@click.option(
    "--label-names",
    multiple=True,
    metavar="A,B,...",
    help="What the labels are called that MODEL only numbers, in the order of their numbers.",
)
@click.option(
    "--missing-value",
    type=float,
    metavar="N",
    help="The number that stands for a missing value (missing=N of XGBoost), which XGBoost's own files do not tell.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1e-3, min_open=True),
    help="How far probabilities, or values as a share of the largest, may be off; it goes onto the card. Labels never may.  [default: 1e-6, values 1e-10]",
)
@click.option(
    "--bounds",
    type=click.Choice(["sheet", "data"]),
    default="sheet",
    show_default=True,
    help="What the agent is to take: within the bounds of the feature sheet, or (data) of the table's own values too.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="NAME",
    help="Of an ONNX file: which of its outputs to answer, one of labels, one of numbers, or both.  [default: the only ones]",
)
@click.option(
    "--scores",
    type=click.Choice(["probabilities", "softmax", "sigmoid", "numbers", "labels"]),
    help="Of an ONNX file: what its numbers are: probabilities; logits, one for each label (softmax) or of the second one (sigmoid); "
    "numbers to answer; or (labels) scores of which the largest is the label's, without probabilities.  [default: as the file and the table tell]",
)
@click.option("--trust-pickle", is_flag=True, help="Open a pickle, which runs any code that it contains.")
def export(model: Path, **options: Unpack[_ExportOptions]) -> None:
    """Write OUT from MODEL, which was trained elsewhere: an estimator or Pipeline of scikit-learn (.skops), a model of XGBoost
    (.json, .ubj), LightGBM (.txt) or CatBoost (.cbm), or an ONNX file (.onnx).

    Give the table that it was trained on: its rows are used to check the file, and its quantiles go into the model card.
    """
    require_place(options["out"], ".onnx")
    choice = _table(options, labelled=False)

    from edge_convert import workflow

    workflow.export(
        model,
        choice,
        options["describe"],
        _identity(options),
        options["out"],
        trust_pickle=options["trust_pickle"],
        seed=options["seed"],
        say=click.echo,
        units=options["unit"],
        label_names=options["label_names"],
        missing_value=options["missing_value"],
        tolerance=options["tolerance"],
        bounds=options["bounds"],
        outputs=options["outputs"],
        scores=options["scores"],
    )


@main.command()
@click.argument("model", type=FILE)
@click.option(
    "--estimator", type=FILE, required=True, help="The file that train --save-estimator wrote, or that export read."
)
@TABLE
@click.option(
    "--rows", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="How many rows to generate."
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="The seed of the generated rows.")
@click.option("--trust-pickle", is_flag=True, help="Open a pickle, which runs any code that it contains.")
def verify(model: Path, **options: Unpack[_VerifyOptions]) -> None:
    """Compare MODEL with the estimator, or the file of another library or tool, that it was made from.

    Both answer every row of the table and as many generated rows as --rows says, most of them on a threshold or one
    step beside it. The exit status is 3 if any label differs, or any probability by more than 1e-6.
    """
    choice = _table(options, labelled=False)

    from edge_convert import comparing

    comparing.compare(
        model,
        options["estimator"],
        choice,
        trust_pickle=options["trust_pickle"],
        rows=options["rows"],
        seed=options["seed"],
        say=click.echo,
    )


def _table(options: _TableOptions, *, labelled: bool) -> TableChoice:
    """Return the table that the options name. `labelled` asks for labels; without it they are welcome."""
    from edge_agent.contract.tabular import Dialect
    from edge_convert.tables import TableChoice

    try:
        dialect = Dialect(options["sep"], options["decimal"], options["encoding"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    data, pair = options["data"], (options["features"], options["labels"])
    if data is not None and pair == (None, None):
        if not options["target"] and (labelled or options["classes"]):
            raise click.UsageError("--data needs --target, the column of labels")
    elif data is None and None not in pair:
        if options["label_column"] is None:
            raise click.UsageError("--labels needs --label-column")
    else:
        raise click.UsageError("give either --data and --target, or --features, --labels and --label-column")
    return TableChoice(
        data=data,
        target=next(iter(options["target"]), None),
        others=options["target"][1:],
        features=options["features"],
        labels=options["labels"],
        label_column=options["label_column"],
        id_column=options["id_column"],
        columns=options["columns"],
        drop=options["drop"],
        classes=options["classes"],
        dialect=dialect,
        missing=options["missing"],
    )


def _identity(options: _FileOptions) -> Identity:
    from edge_convert.modelcard import Identity

    return Identity(options["name"] or options["out"].stem, options["version"], _date(options["date"]))


#: As scikit-learn's documentation spells them.
_PYTHON: Final = {"None": None, "True": True, "False": False}


def _parameters(given: tuple[str, ...]) -> dict[str, object]:
    """Return the parameters of `--set`: numbers, true, false and null as JSON has them, or the latter as Python has them, else text."""
    found: dict[str, object] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or name in {"", "random_state"}:
            raise click.UsageError(f"--set {one}: a parameter is NAME=VALUE (and --seed sets random_state)")
        try:
            found[name] = _PYTHON[text] if text in _PYTHON else json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _decision(options: _TrainOptions) -> Decision | None:
    from edge_convert.deciding import Decision, threshold_of

    calibrate, threshold = options["calibrate"], options["threshold"]
    if calibrate is None and threshold is None:
        return None
    try:
        return Decision(calibrate, None if threshold is None else threshold_of(threshold))
    except ValueError:
        raise click.UsageError(f"--threshold {threshold}: it is f1, cost=5 (or another number) or recall=0.9") from None


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
