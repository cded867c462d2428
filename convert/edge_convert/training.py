"""What the commands do, step by step, and the sentences they say on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import skops.io
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from edge_agent.contract import card
from edge_agent.contract.seal import is_sealed
from edge_agent.errors import CardError, InputError
from edge_convert.describe import Sheet
from edge_convert.estimators import KINDS, Parameters, fit
from edge_convert.evaluate import Evaluation, Scheme, brief, default_jobs, evaluate
from edge_convert.fold import inputs_of, split
from edge_convert.modelcard import Identity, check_card
from edge_convert.package import package
from edge_convert.progress import progress_bar
from edge_convert.report import Report, render
from edge_convert.tables import Table, require_trainable
from edge_convert.verify import Verification, require_verified
from edge_convert.verify import verify as verify_rows

Say = Callable[[str], Any]

_UNMEASURED = card.Metrics(values={}, method="not measured by edge-convert")


@dataclass(frozen=True)
class Trained:
    """A trained, proven model, and everything that was found out on the way."""

    table: Table
    sheet: Sheet
    identity: Identity
    kind: str
    model: Any
    parameters: Parameters
    evaluation: Evaluation | None
    content: bytes
    verification: Verification

    def estimator_file(self) -> bytes:
        """Return scikit-learn's estimator as a skops file."""
        return bytes(skops.io.dumps(self.model))

    def figures(self) -> dict[str, Any]:
        """Return the figures as plain data for JSON."""
        schemes = {}
        if self.evaluation is not None:
            found = {"random rows": self.evaluation.random, "blocks of ids": self.evaluation.blocks}
            schemes = {name: _scheme_figures(scheme) for name, scheme in found.items() if scheme is not None}
        return {
            "model": {"name": self.identity.name, "version": self.identity.version},
            "estimator": self.kind,
            "parameters": self.parameters,
            "rows": len(self.table.X),
            "class_counts": self.table.class_counts,
            "majority_share": max(self.table.class_counts.values()) / len(self.table.X),
            "evaluation": schemes,
            "verification": vars(self.verification),
        }

    def report(self) -> str:
        """Return the report as one HTML page."""
        return render(
            Report(
                self.table,
                self.sheet,
                self.identity,
                KINDS[self.kind].title,
                self.model,
                self.parameters,
                self.evaluation,
                str(self.verification),
            )
        )


def train(
    table: Table,
    sheet: Sheet,
    identity: Identity,
    *,
    kind: str,
    repeats: int,
    folds: int,
    seed: int,
    jobs: int | None,
    say: Say,
) -> Trained:
    """Evaluate (unless `repeats` is 0), fit on all rows, package and prove. Raises `EdgeAgentError`; writes nothing."""
    require_trainable(table, folds if repeats else 2)
    assert table.labels is not None  # noqa: S101 - require_trainable() has counted them
    check_card(identity, table, sheet, list(table.class_counts))
    _say_table(table, say)
    evaluation = None
    if repeats:
        with progress_bar("evaluating") as progress:
            evaluation = evaluate(
                table,
                KINDS[kind],
                repeats=repeats,
                folds=folds,
                seed=seed,
                jobs=jobs or default_jobs(),
                progress=progress,
            )
        for scheme in filter(None, (evaluation.random, evaluation.blocks)):
            _say_scheme(scheme, say)
    model, parameters = fit(KINDS[kind], table.X, table.labels, seed)
    shown = {**model.get_params(deep=False), **parameters}
    say(f"model: {KINDS[kind].title}: " + ", ".join(f"{name}={brief(value)}" for name, value in parameters.items()))
    metrics = evaluation.to_metrics() if evaluation is not None else _UNMEASURED
    with progress_bar("verifying") as progress:
        content, verification = package(
            model, table, sheet, identity, parameters=shown, metrics=metrics, seed=seed, progress=progress
        )
    say(str(verification))
    return Trained(table, sheet, identity, kind, model, parameters, evaluation, content, verification)


def export(model: Any, table: Table, sheet: Sheet, identity: Identity, *, seed: int, say: Say) -> bytes:
    """Package and prove an estimator that was trained elsewhere; the table is what it was trained on."""
    if inputs_of(model)[0] != len(table.feature_names):
        raise InputError(
            f"{table.sources[0].path}: has {len(table.feature_names)} feature columns, the estimator was trained on "
            f"{inputs_of(model)[0]}; choose them with --columns"
        )
    _, estimator = split(model)
    check_card(identity, table, sheet, [str(label) for label in model.classes_])
    with progress_bar("verifying") as progress:
        content, verification = package(
            model,
            table,
            sheet,
            identity,
            parameters=estimator.get_params(deep=False),
            metrics=_UNMEASURED,
            seed=seed,
            progress=progress,
        )
    say(str(verification))
    return content


def read_model(path: Path) -> tuple[bytes, card.ModelCard]:
    """Return a model file's bytes and its card. Raises `InputError` if it is not an ONNX file with a card, `ModelError` if
    it is damaged.
    """
    try:
        content = path.read_bytes()
        is_sealed(content, where=str(path))
        properties = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    except DecodeError:
        raise InputError(f"{path}: is not an ONNX file") from None
    if card.METADATA_KEY not in properties:
        raise InputError(f"{path}: is not a model file of edge-agent: it has no model card")
    try:
        return content, card.parse(properties[card.METADATA_KEY], where=str(path))
    except CardError as error:
        raise InputError(str(error)) from error


def compare(model: Any, content: bytes, table: Table, *, where: str, rows: int, seed: int, say: Say) -> None:
    """Say how far a model file is from `model`. Raises `ModelError` if it is too far."""
    if inputs_of(model)[0] != len(table.feature_names):
        raise InputError(f"{where}: takes {len(table.feature_names)} features, the estimator {inputs_of(model)[0]}")
    sealed = is_sealed(content, where=where)
    say("digest: right" if sealed else "digest: the file carries none, so damage that leaves it readable goes unseen")
    with progress_bar("verifying") as progress:
        result = verify_rows(model, content, table.X, rows=rows, seed=seed, progress=progress)
    say(str(result))
    require_verified(result, where)


def _say_table(table: Table, say: Say) -> None:
    rows = len(table.X)
    balance = ", ".join(f"{label} {count:,} ({count / rows:.1%})" for label, count in table.class_counts.items())
    say(f"table: {rows:,} rows, {len(table.feature_names)} features; {balance}")
    for sentence in table.left_out:
        say(f"       {sentence}")
    commonest = max(table.class_counts, key=lambda label: table.class_counts[label])
    say(f"       always saying {commonest} would have accuracy {table.class_counts[commonest] / rows:.4f}")


def _say_scheme(scheme: Scheme, say: Say) -> None:
    say(f"{scheme.title}, {scheme.seconds:.0f} s:")
    several = len(scheme.repeats) > 1
    for name, (mean, deviation) in scheme.figures.items():
        say(f"       {name:<20} {mean:.4f}" + (f" (sd {deviation:.4f})" if several else ""))


def _scheme_figures(scheme: Scheme) -> dict[str, Any]:
    return {
        "method": scheme.title,
        "figures": {name: {"mean": mean, "sd": deviation} for name, (mean, deviation) in scheme.figures.items()},
        "confusion": scheme.confusion.tolist(),
        "chosen": dict(scheme.chosen),
        "seconds": round(scheme.seconds, 1),
    }
