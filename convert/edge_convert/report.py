"""The report: one HTML file with nothing beside it, readable offline and in ten years."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from edge_agent.contract.card import Quantity
from edge_convert import number_plots, plots
from edge_convert.classifier import Estimator, labels_of
from edge_convert.describe import Sheet
from edge_convert.estimators import Parameters
from edge_convert.evaluate import MOST_LABELS, Evaluation, Scheme, brief
from edge_convert.modelcard import Identity
from edge_convert.residuals import NumberEvaluation, NumberScheme
from edge_convert.tables import Table
from edge_convert.treeplot import draw_tree
from edge_convert.trees import trees_of

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #cbd2d9; }
p.note { color: #52606d; font-size: .9rem; max-width: 48rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 0; } thead th { border-bottom: 1px solid #9aa5b1; }
tr.ours td { font-weight: 600; }
.plots { display: flex; flex-wrap: wrap; gap: 2rem; } figure { margin: 0; } figcaption { font-weight: 600; }
svg { max-width: 100%; height: auto; } .wide { overflow-x: auto; } .wide svg { min-width: 60rem; } th { white-space: nowrap; }
"""


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


def render(report: Report) -> str:
    """Return the page."""
    title = f"{report.identity.name} {report.identity.version}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(report.sheet.description)}</p>" if report.sheet.description else "",
        _data(report),
    ]
    if isinstance(report.evaluation, NumberEvaluation):
        parts += [_errors(report, report.evaluation), _number_plots(report, report.evaluation)]
    elif report.evaluation is not None:
        parts += [_figures(report, report.evaluation), _plots(report.table, report.evaluation)]
    parts += [_model(report), f"<h2>Proof</h2><p>{escape(report.verification)}</p>"]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


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
    if len(evaluation.labels) == 2:  # the commoner label's F1 says little, and the table is wide enough
        names.remove(f"f1 {next(label for label in evaluation.labels if label != evaluation.rarest)}")
    rows = [(f"this model ({report.kind}): {s.title}", *(_figure(s, name) for name in names)) for s in schemes]
    rows += [(f.name, *(f"{f.values[name]:.3f}" if name in f.values else "-" for name in names)) for f in published]
    rows.append(("always the commonest label", f"{evaluation.majority_share:.4f}", *("-" for _ in names[1:])))
    note = (
        "Figures are those of whole out-of-fold predictions, mean ± standard deviation over the repeats. Parameters were "
        "chosen inside the training rows of each fold. "
        + (f"ROC AUC and Brier score are about {evaluation.rarest}. " if len(evaluation.labels) == 2 else "")
        + "ECE is the expected calibration error of the confidence. Brier and ECE: lower is better. "
        "Blocks of ids hold neighbours out together; random rows flatter where neighbours are alike."
    )
    return f'<h2>Figures</h2><div class="wide">{_table(("", *names), rows, ours=len(schemes))}</div>{_note(note)}'


def _figure(scheme: Scheme, name: str) -> str:
    if name not in scheme.figures:
        return "one label only"
    mean, deviation = scheme.figures[name]
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if len(scheme.repeats) > 1 else "")


def _plots(table: Table, evaluation: Evaluation) -> str:
    scheme = evaluation.random
    shown = [
        ("Confusion matrix", plots.confusion(scheme, evaluation.labels)),
        ("Calibration", plots.calibration(evaluation, scheme)),
        ("Importances", plots.importances(scheme.importances, table.feature_names)),
    ]
    if len(evaluation.labels) <= MOST_LABELS:
        shown.insert(1, ("ROC", plots.roc(evaluation, scheme)))
    return _gallery(shown, scheme.title, "In the calibration plot, the grey bars are how many answers there are.")


def _model(report: Report) -> str:
    chosen = ", ".join(f"{name} = {brief(value)}" for name, value in report.parameters.items())
    trees = trees_of(report.model) or []
    labels = labels_of(report.model) if hasattr(report.model, "classes_") else ()
    first = draw_tree(trees[0], report.table.feature_names, labels, depth=12 if len(trees) == 1 else 5)
    caption = "The tree" if len(trees) == 1 else f"The first of its {len(trees)} trees"
    return (
        f"<h2>Model</h2><p>{escape(report.kind)}, fitted on all rows: {escape(chosen)}</p><h3>{caption}</h3>"
        f'{_note("Yes goes up, no goes down.")}<div class="wide">{first}</div>'
    )


def _quantiles(report: Report) -> str:
    """What the table has of each number, from the least to the largest."""
    table = report.table
    columns = np.array([table.truth, *table.others.values()]).astype(np.float64)
    levels = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    rows = [
        (one.name, one.unit, *(f"{value:.4g}" for value in (*np.quantile(column, levels), column.mean())))
        for one, column in zip(report.quantities, columns, strict=True)
    ]
    return _table(("number", "unit", "least", "5 %", "25 %", "median", "75 %", "95 %", "largest", "mean"), rows)


def _errors(report: Report, evaluation: NumberEvaluation) -> str:
    """Ours, the same with blocks held out, and what needs no model at all: a row for each number."""
    rows: list[tuple[str, ...]] = []
    schemes = list(evaluation.schemes.values())
    several = len(report.quantities) > 1
    for one in report.quantities:
        of = f" {one.name}" if several else ""
        named = f"{one.name}{f' ({one.unit})' if one.unit else ''}"
        rows += [
            (f"{named}: {s.title}", *(_number(s, f"{name}{of}") for name in ("mae", "rmse", "r2"))) for s in schemes
        ]
        baseline = [_number(evaluation.random, f"{name} of the mean{of}") for name in ("mae", "rmse")]
        rows.append((f"{named}: always answering the mean", *baseline, "0"))
    note = (
        "Figures are those of whole out-of-fold predictions, mean ± standard deviation over the repeats. Parameters were chosen "
        "inside the training rows of each fold. MAE is the mean absolute error, RMSE the root of the mean square error; both in the unit of "
        "the number, lower is better. R2 is 1 for a model without errors and 0 for the mean. Blocks of ids hold neighbours "
        "out together; random rows flatter where neighbours are alike."
    )
    return f'<h2>Figures</h2><div class="wide">{_table(("", "MAE", "RMSE", "R2"), rows)}</div>{_note(note)}'


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
    shown.append(("Importances", number_plots.importances(scheme.importances, report.table.feature_names)))
    return _gallery(shown, scheme.title, "A residual is the predicted number minus the true one.")


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
