"""What is left over when a model is trained: its figures as sentences and as JSON, its report, the estimator itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_convert.classifier import Classifier
from edge_convert.estimators import KINDS, Parameters
from edge_convert.evaluate import Evaluation, Scheme
from edge_convert.modelcard import Draft
from edge_convert.verify import Verification


@dataclass(frozen=True)
class Trained:
    """A trained, proven model, and everything that was found out on the way."""

    draft: Draft
    kind: str
    model: Classifier
    parameters: Parameters
    evaluation: Evaluation | None
    verification: Verification

    def estimator_file(self) -> bytes:
        """Return scikit-learn's estimator as a skops file."""
        import skops.io

        return bytes(skops.io.dumps(self.model))

    def metrics_file(self) -> bytes:
        """Return the figures as JSON."""
        identity, table = self.draft.identity, self.draft.table
        schemes = {} if self.evaluation is None else self.evaluation.schemes
        figures = {
            "model": {"name": identity.name, "version": identity.version},
            "estimator": self.kind,
            "parameters": self.parameters,
            "rows": len(table.X),
            "class_counts": table.class_counts,
            "majority_share": max(table.class_counts.values()) / len(table.X),
            "evaluation": {name: _figures(scheme) for name, scheme in schemes.items()},
            "verification": vars(self.verification),
        }
        return json.dumps(figures, indent=2).encode() + b"\n"

    def report_file(self) -> bytes:
        """Return the report as one HTML page."""
        from edge_convert.report import Report, render  # brings matplotlib

        report = Report(
            self.draft.table,
            self.draft.sheet,
            self.draft.identity,
            KINDS[self.kind].title,
            self.model,
            self.parameters,
            self.evaluation,
            str(self.verification),
        )
        return render(report).encode()


def say_scheme(scheme: Scheme, say: Callable[[str], object]) -> None:
    """Say what came of one way of holding rows out, a line for each figure."""
    say(f"{scheme.title}, {scheme.seconds:.0f} s:")
    several = len(scheme.repeats) > 1
    for name, (mean, deviation) in scheme.figures.items():
        say(f"       {name:<20} {mean:.4f}" + (f" (sd {deviation:.4f})" if several else ""))


def _figures(scheme: Scheme) -> dict[str, Any]:
    return {
        "method": scheme.title,
        "figures": {name: {"mean": mean, "sd": deviation} for name, (mean, deviation) in scheme.figures.items()},
        "confusion": scheme.confusion.tolist(),
        "chosen": dict(scheme.chosen),
        "seconds": round(scheme.seconds, 1),
    }
