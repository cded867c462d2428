"""What is left over when a model is trained: its figures as sentences and as JSON, its report, the estimator itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.model_selection import FixedThresholdClassifier

from edge_convert.classifier import Estimator
from edge_convert.estimators import Parameters
from edge_convert.evaluate import Evaluation, Scheme
from edge_convert.modelcard import Draft
from edge_convert.residuals import NumberEvaluation, NumberScheme
from edge_convert.tasks import Anomaly, Classification, Regression
from edge_convert.verify import Verification


@dataclass(frozen=True)
class Trained:
    """A trained, proven model, and everything that was found out on the way."""

    draft: Draft
    kind: str
    title: str
    model: Estimator
    parameters: Parameters
    evaluation: Evaluation | NumberEvaluation | None
    verification: Verification

    def estimator_file(self) -> bytes:
        """Return scikit-learn's estimator as a skops file."""
        import skops.io

        return bytes(skops.io.dumps(self.model))

    def metrics_file(self) -> bytes:
        """Return the figures as JSON."""
        identity, table = self.draft.identity, self.draft.table
        schemes: Mapping[str, Scheme | NumberScheme] = {} if self.evaluation is None else self.evaluation.schemes
        labels = {}
        if isinstance(self.draft.task, Classification):
            labels = {
                "class_counts": table.class_counts,
                "majority_share": max(table.class_counts.values()) / len(table.X),
            }
        figures = {
            "model": {"name": identity.name, "version": identity.version},
            "estimator": self.title if isinstance(self.draft.task, Anomaly) else self.kind,
            "parameters": self.parameters,
            "rows": len(table.X),
            **labels,
            "evaluation": {name: _figures(scheme) for name, scheme in schemes.items()},
            "verification": {**vars(self.verification), "comparison": self.verification.comparison._asdict()},
        }
        return json.dumps(figures, indent=2).encode() + b"\n"

    def report_file(self, command: str = "") -> bytes:
        """Return the report as one HTML page; `command` is what was typed."""
        from edge_convert.report import Report, render  # brings matplotlib

        report = Report(
            self.draft.table,
            self.draft.sheet,
            self.draft.identity,
            self.title,
            self.model,
            self.parameters,
            self.evaluation,
            str(self.verification),
            self.draft.task.quantities if isinstance(self.draft.task, Regression) else (),
            command,
        )
        return render(report).encode()


def figure(value: float) -> str:
    """Return a figure as people read it: four digits behind the point, or four that count where numbers are large."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:#.4g}".rstrip(".")


def say_scheme(scheme: Scheme | NumberScheme, say: Callable[[str], object]) -> None:
    """Say what came of one way of holding rows out, a line for each figure."""
    say(f"{scheme.title}, {scheme.seconds:.0f} s:")
    several, widest = len(scheme.repeats) > 1, max(20, *map(len, scheme.figures))
    for name, (mean, deviation) in scheme.figures.items():
        say(f"       {name:<{widest}} {figure(mean)}" + (f" (sd {figure(deviation)})" if several else ""))


def say_threshold(
    model: Estimator, evaluation: Evaluation | NumberEvaluation | None, say: Callable[[str], object]
) -> None:
    """Say from which probability on a label is the answer, and what came of that: a high recall may be an answer to everything."""
    if not isinstance(model, FixedThresholdClassifier):
        return
    found = ""
    if isinstance(evaluation, Evaluation):
        place, counts = evaluation.labels.index(model.pos_label), evaluation.random.confusion
        right, there, said = (int(n) for n in (counts[place, place], counts[place].sum(), counts[:, place].sum()))
        found = (
            f"; on held-out rows its recall is {right / max(there, 1):.3f}, its precision {right / max(said, 1):.3f}"
        )
    say(f"label: {model.pos_label} where its probability is {model.threshold:.4g} or more{found}")


def gap_of(schemes: Mapping[str, Scheme | NumberScheme]) -> str:
    """Return a sentence if random folds say much more than what else was held out, "" if they don't."""
    first, *others = schemes
    at_random = {name: mean for name, (mean, _) in schemes[first].figures.items()}
    names = ["accuracy"] if "accuracy" in at_random else []
    # Several outputs have each their own: `mae indoors` and `mae of the mean indoors`.
    names += [name for name in at_random if name[:3] == "mae" and f"mae of the mean{name[3:]}" in at_random]
    said = []
    for name in names if others else ():
        better, much = (1, 0.02) if name == "accuracy" else (-1, 0.1 * at_random[name])
        figures = {other: schemes[other].figures[name][0] for other in others}
        lowest = min(others, key=lambda other: better * figures[other])
        if better * (at_random[name] - figures[lowest]) > much:
            said.append(f"{name} is {figure(figures[lowest])} on {lowest}, {figure(at_random[name])} on random rows")
    return f"{'; '.join(said)}: expect the former of new messages" if said else ""


def _figures(scheme: Scheme | NumberScheme) -> dict[str, Any]:
    return {
        "method": scheme.title,
        "figures": {name: {"mean": mean, "sd": deviation} for name, (mean, deviation) in scheme.figures.items()},
        **({"confusion": scheme.confusion.tolist()} if isinstance(scheme, Scheme) else {}),
        "chosen": dict(scheme.chosen),
        "seconds": round(scheme.seconds, 1),
    }
