"""The report: one HTML file with nothing beside it, readable offline and in ten years."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import metadata
from typing import Final

import numpy as np

from edge_agent.contract.card import Quantity
from edge_convert import insight, number_plots, plots
from edge_convert.classifier import Estimator, labels_of
from edge_convert.deciding import base_of
from edge_convert.describe import FeatureNote, Sheet
from edge_convert.estimators import Parameters
from edge_convert.evaluate import Evaluation, Scheme, brief
from edge_convert.holdouts import GROUPS, LATER, RANDOM
from edge_convert.modelcard import Identity
from edge_convert.residuals import NumberEvaluation, NumberScheme
from edge_convert.tables import Table
from edge_convert.treeplot import depth_of, draw_tree
from edge_convert.trees import trees_of

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #cbd2d9; }
p.note { color: #52606d; font-size: .9rem; max-width: 48rem; }
pre { white-space: pre-wrap; background: #f5f7fa; padding: .6rem; font-size: .85rem; } table { border-collapse: collapse; } th, td { padding: .2rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 0; } thead th { border-bottom: 1px solid #9aa5b1; }
tr.ours td { font-weight: 600; }
.plots { display: flex; flex-wrap: wrap; gap: 2rem; } figure { margin: 0; } figcaption { font-weight: 600; }
svg { max-width: 100%; height: auto; } .wide { overflow-x: auto; } .wide svg { max-width: none; } th { white-space: nowrap; } .wide td:first-child { min-width: 16rem; }
"""


_LEVELS: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_QUANTILES: Final = ("least", "5 %", "25 %", "median", "75 %", "95 %", "largest")
_CURVE: Final = (
    "The learning curve has the model's own parameters; where the blue line still rises, more rows help, where it is far below the "
    "grey one, the model knows its rows by heart. Features that change nothing when they are shuffled are left out."
)
#: Up to so many labels have their F1 among the figures.
_FEW_LABELS: Final = 3
#: So many features are listed.
_MOST_FEATURES: Final = 100


@dataclass(frozen=True)
class Report:
    """What the page tells of."""

    table: Table
    sheet: Sheet
    identity: Identity
    kind: str
    model: Estimator
    parameters: Parameters
    evaluation: Evaluation | NumberEvaluation | None
    verification: str
    #: Of a regression: what it answers.
    quantities: tuple[Quantity, ...] = ()
    #: What was typed.
    command: str = ""


def render(report: Report) -> str:
    """Return the page."""
    title = f"{report.identity.name} {report.identity.version}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _made(report),
        f"<p>{escape(report.sheet.description)}</p>" if report.sheet.description else "",
        _data(report),
        _features(report),
    ]
    if isinstance(report.evaluation, NumberEvaluation):
        parts += [_errors(report, report.evaluation), _number_plots(report, report.evaluation)]
    elif report.evaluation is not None:
        parts += [_figures(report, report.evaluation), _by_label(report.evaluation), _plots(report, report.evaluation)]
    if report.evaluation is not None:
        parts.append(_where_wrong(report, report.evaluation))
    parts += [_model(report), f"<h2>Proof</h2><p>{escape(report.verification)}</p>"]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _made(report: Report) -> str:
    """When, with what, and by which command."""
    used = {"Python": platform.python_version()} | {
        name: metadata.version(name) for name in ("scikit-learn", "numpy", "onnx", "onnxruntime")
    }
    versions = ", ".join(f"{name} {version}" for name, version in used.items())
    command = f"<pre>{escape(report.command)}</pre>" if report.command else ""
    return f"{_note(f'{report.identity.date}; {versions}')}{command}"


def _features(report: Report) -> str:
    """What the table has of each feature, from the least to the largest."""
    table = report.table
    rows: list[tuple[str, ...]] = []
    for column, name in enumerate(table.feature_names):
        values, note = table.X[:, column], report.sheet.features.get(name, FeatureNote())
        lacking = int(np.isnan(values).sum())
        words = table.words.get(name)
        what = note.unit or (str(words) if words else "")
        rows.append((name, what, f"{lacking:,}", *(f"{value:.4g}" for value in np.nanquantile(values, _LEVELS))))
    head: tuple[str, ...] = ("feature", "unit or kind", "missing", *_QUANTILES)
    if not any(what for _, what, *_ in rows):
        head, rows = (head[0], *head[2:]), [(name, *figures) for name, _, *figures in rows]
    more = _note(f"and {len(rows) - _MOST_FEATURES:,} more features") if len(rows) > _MOST_FEATURES else ""
    return f'<h2>Features</h2><div class="wide">{_table(head, rows[:_MOST_FEATURES])}</div>{more}'


def _data(report: Report) -> str:
    table, sheet, rows = report.table, report.sheet, len(report.table.X)
    if report.quantities or not table.class_counts:
        balance = f"<p>{rows:,} rows.</p>" + (_quantiles(report) if report.quantities else "")
    else:
        balance = _table(
            ("label", "rows", "share"),
            [(label, f"{count:,}", f"{count / rows:.1%}") for label, count in table.class_counts.items()],
        )
    notes = "".join(f'<p class="note">{escape(sentence)}</p>' for sentence in table.left_out)
    files = []
    for source in table.sources:
        note = sheet.dataset(source)
        about = ", ".join(filter(None, (note.name, note.licence, note.attribution))) if note else ""
        files.append(f"<li>{escape(source.path.name)} <small>sha256 {source.sha256}</small><br>{escape(about)}</li>")
    return f"<h2>Data</h2>{balance}{notes}<ul>{''.join(files)}</ul>"


def _figures(report: Report, evaluation: Evaluation) -> str:
    """Ours, the same with blocks held out, what others published, and what needs no model at all."""
    schemes = list(evaluation.schemes.values())
    published = report.sheet.published_on(report.table.sources)
    names = list(evaluation.random.figures)
    if len(evaluation.labels) > _FEW_LABELS:  # they stand by label below
        names = [name for name in names if not name.startswith("f1 ")]
    if len(evaluation.labels) == 2:  # the commoner label's F1 says little, and the table is wide enough
        names.remove(f"f1 {next(label for label in evaluation.labels if label != evaluation.rarest)}")
    rows = [(f"this model ({report.kind}): {s.title}", *(_figure(s, name) for name in names)) for s in schemes]
    rows += [
        (f.name, *(f"{f.values[name]:.3f}" if name in f.values else "not published" for name in names))
        for f in published
    ]
    rows += [
        (what, *(f"{figures[name]:.4f}" for name in names))
        for what, figures in insight.baselines(report.table, evaluation).items()
    ]
    about = f"ROC AUC and Brier score are those of the label “{evaluation.rarest}”. "
    note = (
        about if len(evaluation.labels) == 2 else ""
    ) + "ECE is the expected calibration error of the confidence. Brier and ECE: lower is better."
    return f'<h2>Figures</h2><div class="wide">{_table(("", *names), rows, ours=len(schemes))}</div>{_note(_measured(schemes) + note)}'


def _by_label(evaluation: Evaluation) -> str:
    """Precision, recall and F1 of each label."""
    counts = evaluation.random.confusion / len(evaluation.random.repeats)
    rows = []
    for place, label in enumerate(evaluation.labels):
        right, true, said = counts[place, place], counts[place].sum(), counts[:, place].sum()
        precision, recall = right / said if said else 0.0, right / true if true else 0.0
        f1 = 2 * right / (true + said) if true + said else 0.0
        rows.append((label, f"{true:,.0f}", f"{said:,.0f}", f"{precision:.4f}", f"{recall:.4f}", f"{f1:.4f}"))
    head = ("label", "rows", "answers", "precision", "recall", "F1")
    return f"<h3>By label</h3>{_table(head, rows)}{_note(f'On held-out rows: {evaluation.random.title}.')}"


def _figure(scheme: Scheme, name: str) -> str:
    if name not in scheme.figures:
        return "no such rows" if name.startswith("f1 ") else "one label only"
    mean, deviation = scheme.figures[name]
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if len(scheme.repeats) > 1 else "")


def _plots(report: Report, evaluation: Evaluation) -> str:
    scheme, table = evaluation.random, report.table
    curve = insight.learning_curve(base_of(report.model), table.X, table.truth)
    shown = [
        ("Confusion matrix", plots.confusion(scheme, evaluation.labels)),
        ("ROC", plots.roc(evaluation, scheme)),
        ("Precision and recall", plots.precision_recall(evaluation, scheme)),
        ("Calibration", plots.calibration(evaluation, scheme)),
        ("Importances", plots.importances(scheme.importances, scheme.spreads, table.feature_names)),
    ]
    if len(curve.sizes) > 1:
        shown.append(("Learning curve", plots.learning(*curve, "accuracy")))
    remark = "Bars of the calibration plot are 95 % intervals, its numbers how many answers there are. "
    return _gallery(shown, scheme.title, remark + _CURVE)


def _where_wrong(report: Report, evaluation: Evaluation | NumberEvaluation) -> str:
    """Errors by group and by time, where the table tells these."""
    table, parts = report.table, []
    if table.groups is None and table.times is None:
        return ""
    what = "share of errors" if isinstance(evaluation, Evaluation) else "mean absolute error, as a share of the mean's"
    if table.groups is not None:
        rows, losses = insight.losses_of(evaluation, GROUPS)
        worst = insight.worst_groups(table.groups[1][rows], losses)
        shown = [(name, f"{count:,}", f"{loss:.4f}") for name, count, loss in worst]
        parts.append(f"<h3>By {escape(table.groups[0])}</h3>{_table((table.groups[0], 'rows', what), shown)}")
        parts.append(_note("The groups with the most errors, each answered by a model that had not seen it."))
    if table.times is not None:
        rows, losses = insight.losses_of(evaluation, RANDOM)
        plot = plots.by_time(*insight.parts_of_time(table.times[1][rows], losses), what)
        parts.append(f"<h3>By {escape(table.times[0])}</h3>{plot}{_note('On random held-out rows.')}")
        rows, losses = insight.losses_of(evaluation, LATER)
        plot = plots.by_time(*insight.parts_of_time(table.times[1][rows], losses), what)
        parts.append(f"{plot}{_note('On rows later than all that the model had learned from.')}")
    return f"<h2>Where the errors are</h2>{''.join(parts)}"


def _model(report: Report) -> str:
    chosen = ", ".join(f"{name} = {brief(value)}" for name, value in report.parameters.items())
    trees = trees_of(base_of(report.model)) or []
    labels = labels_of(report.model) if hasattr(report.model, "classes_") else ()
    first = draw_tree(
        trees[0], report.table.feature_names, labels, depth=depth_of(trees[0], 12 if len(trees) == 1 else 5)
    )
    caption = "The tree" if len(trees) == 1 else f"The first of its {len(trees)} trees"
    return (
        f"<h2>Model</h2><p>{escape(report.kind)}, fitted on all rows: {escape(chosen)}</p><h3>{caption}</h3>"
        f'{_note("Yes goes up, no goes down.")}<div class="wide">{first}</div>'
    )


def _quantiles(report: Report) -> str:
    """What the table has of each number, from the least to the largest."""
    table = report.table
    columns = np.array([table.truth, *table.others.values()]).astype(np.float64)
    rows = [
        (one.name, one.unit, *(f"{value:.4g}" for value in (*np.quantile(column, _LEVELS), column.mean())))
        for one, column in zip(report.quantities, columns, strict=True)
    ]
    return _table(("number", "unit", *_QUANTILES, "mean"), rows)


def _errors(report: Report, evaluation: NumberEvaluation) -> str:
    """Ours, the same with blocks held out, and what needs no model at all: a row for each number."""
    rows: list[tuple[str, ...]] = []
    schemes = list(evaluation.schemes.values())
    several = len(report.quantities) > 1
    asked = insight.single_question(report.table.X, evaluation.truth)
    for one in report.quantities:
        of = f" {one.name}" if several else ""
        named = f"{one.name}{f' ({one.unit})' if one.unit else ''}"
        rows += [
            (f"{named}: this model, {s.title}", *(_number(s, f"{name}{of}") for name in ("mae", "rmse", "r2")))
            for s in schemes
        ]
        baseline = [_number(evaluation.random, f"{name} of the mean{of}") for name in ("mae", "rmse")]
        rows.append((f"{named}: always answering the mean", *baseline, "0"))
        column = report.quantities.index(one)
        wrong = asked[:, column] - evaluation.truth[:, column]
        explained = 1 - (wrong**2).mean() / (evaluation.truth[:, column].var() or 1.0)
        figures = (f"{np.abs(wrong).mean():.4g}", f"{np.sqrt((wrong**2).mean()):.4g}", f"{explained:.4g}")
        rows.append((f"{named}: a single question (a tree of two leaves)", *figures))
    note = (
        "MAE is the mean absolute error, RMSE the root of the mean square error; both in the unit of "
        "the number, lower is better. R2 is 1 for a model without errors and 0 for the mean."
    )
    return f'<h2>Figures</h2><div class="wide">{_table(("", "MAE", "RMSE", "R2"), rows)}</div>{_note(_measured(schemes) + note)}'


def _measured(schemes: Sequence[Scheme] | Sequence[NumberScheme]) -> str:
    """How the figures came about."""
    repeats = ", mean ± standard deviation over the repeats" if len(schemes[0].repeats) > 1 else ""
    alike = (
        "Blocks of ids, groups and later rows hold out what is alike; random rows flatter where neighbours are alike. "
    )
    return (
        f"Figures are those of whole out-of-fold predictions{repeats}. Parameters were chosen inside the training rows of each fold. "
        f"{alike if len(schemes) > 1 else ''}"
    )


def _number(scheme: NumberScheme, name: str) -> str:
    mean, deviation = scheme.figures[name]
    return f"{mean:.4g}" + (f" ± {deviation:.2g}" if len(scheme.repeats) > 1 else "")


def _number_plots(report: Report, evaluation: NumberEvaluation) -> str:
    scheme, shown = evaluation.random, []
    for column, one in enumerate(report.quantities):
        truth, said = evaluation.truth[scheme.rows, column], scheme.repeats[0][:, column]
        shown += [
            (f"{one.name}: predicted and true", number_plots.predicted(truth, said, one)),
            (f"{one.name}: residuals", number_plots.residuals(truth, said, one)),
            (f"{one.name}: how large the errors are", number_plots.errors(truth, said, one)),
        ]
    names, y = report.table.feature_names, evaluation.truth
    shown.append(("Importances", number_plots.importances(scheme.importances, scheme.spreads, names)))
    curve = insight.learning_curve(base_of(report.model), report.table.X, y[:, 0] if y.shape[1] == 1 else y)
    if len(curve.sizes) > 1:
        shown.append(("Learning curve", plots.learning(*curve, "R2")))
    return _gallery(shown, scheme.title, f"A residual is the predicted number minus the true one. {_CURVE}")


def _gallery(shown: Iterable[tuple[str, str]], title: str, remark: str) -> str:
    """Return plots with their captions; `title` says which rows were held out."""
    figures = "".join(f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>" for caption, svg in shown)
    note = _note(f"All on held-out rows: {title}. {remark}")
    return f'<h2>Plots</h2><div class="plots">{figures}</div>{note}'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, ours: int = 0) -> str:
    body = "".join(
        f"<tr{' class=ours' if number < ours else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for number, row in enumerate(rows)
    )
    return f"<table><thead><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr></thead><tbody>{body}</tbody></table>"
