"""Which kind of estimator? All are evaluated in the same way, and weighed against what they cost on a device.

What is recommended is the smallest file whose figure is within one standard error of the best one (Breiman et al. 1984, 3.4.3): a
difference that another table of as many rows might turn round is not worth a larger model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_convert.costs import PI, Cost, in_bytes, measure, milliseconds
from edge_convert.estimators import Parameters, Progress
from edge_convert.evaluate import Evaluation
from edge_convert.fold import fold
from edge_convert.insight import losses_of
from edge_convert.residuals import NumberEvaluation
from edge_convert.trainers import Trainer

Say = Callable[[str], object]

#: Enough to compare by, and a third of the time of ten.
FOLDS: Final = 5


@dataclass(frozen=True)
class Candidate:
    """A kind of estimator, with parameters that are not chosen."""

    title: str
    kind: str
    fixed: Parameters


CANDIDATES: Final = (
    Candidate("tree", "tree", {}),
    Candidate("boosting, small", "boosting", {"max_iter": 150, "max_leaf_nodes": 7}),
    Candidate("boosting", "boosting", {}),
    Candidate("forest", "forest", {}),
)


@dataclass(frozen=True)
class Weighed:
    """What a candidate is worth: its mean `loss` on held-out rows, the standard `error` of that, `figure` for people, and its cost."""

    candidate: Candidate
    loss: float
    error: float
    figure: str
    cost: Cost


def weigh(
    candidates: Sequence[Candidate],
    trainer_of: Callable[[Candidate], Trainer],
    X: NDArray[np.float64],
    *,
    folds: int,
    seed: int,
    jobs: int,
    progress: Progress,
    say: Say,
) -> Candidate:
    """Evaluate all candidates, say what each is worth, and return the recommended one."""
    found, on = [], ""
    for number, candidate in enumerate(candidates):
        trainer = trainer_of(candidate)
        evaluation = trainer.evaluate(repeats=1, folds=min(FOLDS, folds), seed=seed, jobs=jobs, progress=_silent)
        model, _ = trainer.fit(seed, _silent)
        cost = measure(trainer.task.graph(fold(model, missing=bool(np.isnan(X).any()))).SerializeToString(), X)
        assert evaluation is not None  # noqa: S101 - only anomalies have none, and these have no candidates
        found.append(Weighed(candidate, *_losses(evaluation), cost))
        on = list(evaluation.schemes)[-1]
        progress(number + 1, len(candidates))
    chosen = recommended(found)
    say(
        f"auto:  {'estimator':<16} {found[0].figure.split(' ')[0]:>14} {'size':>9} {'memory':>9} {'a row on a Pi 4':>16}   ({on})"
    )
    for one in found:
        mark = "  recommended" if one is chosen else ""
        memory, pi = in_bytes(one.cost.memory), milliseconds(PI * one.cost.seconds)
        value = one.figure.split(" ", 1)[1]
        say(f"       {one.candidate.title:<16} {value:>14} {in_bytes(one.cost.size):>9} {memory:>9} {pi:>16}{mark}")
    for sentence in reasons(found):
        say(f"       {sentence}")
    return chosen.candidate


def _silent(_done: int, _total: int) -> None:
    """What each candidate does is not counted."""


def recommended(found: Sequence[Weighed]) -> Weighed:
    """Return the smallest of those within one standard error of the best that a device can hold, if any can."""
    best = _best(able := _able(found))
    return min((one for one in able if one.loss <= best.loss + best.error), key=lambda one: one.cost.size)


def reasons(found: Sequence[Weighed]) -> list[str]:
    """Return why the recommended one is not the one with the best figure, where it isn't."""
    best, able, chosen = _best(found), _best(_able(found)), recommended(found)
    said = []
    if best is not able:
        said.append(f"{best.candidate.title} is better, but too much for a Raspberry Pi: {best.cost.trouble}")
    if chosen is not able:
        said.append(
            f"{chosen.candidate.title} is the smallest within one standard error ({able.error:.4f}) of {able.candidate.title}"
        )
    return said


def _able(found: Sequence[Weighed]) -> list[Weighed]:
    """Return those that a device can hold; all, if it can hold none."""
    return [one for one in found if not one.cost.trouble] or list(found)


def _best(found: Sequence[Weighed]) -> Weighed:
    return min(found, key=lambda one: one.loss)


def _losses(evaluation: Evaluation | NumberEvaluation) -> tuple[float, float, str]:
    """Return the mean loss of a row that was held out, its standard error, and the figure; by what flatters the least."""
    last = list(evaluation.schemes)[-1]
    _, losses = losses_of(evaluation, last)
    figure = f"accuracy {1 - losses.mean():.4f}"
    if isinstance(evaluation, NumberEvaluation):
        mae = evaluation.schemes[last].figures.get("mae")
        figure = f"MAE {mae[0]:.4g}" if mae else f"MAE/mean's {losses.mean():.4f}"
    return float(losses.mean()), float(losses.std() / np.sqrt(len(losses))), figure
