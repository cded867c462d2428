"""From a table to a model file, in one straight line.

    read -> prepare -> fit -> fold -> graph -> verify -> card -> seal -> write

Each step is a call whose value the next one takes; all are below, in this order. `train` fits an estimator, `export` takes
one that was fitted elsewhere, and from there on the two are the same (`model_file`). Evaluation, report and feature sheet
hang off the line; none of them decides what the model answers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.contract import card
from edge_agent.contract.seal import seal
from edge_agent.errors import InputError
from edge_convert.admission import require_codes_known, require_gaps_taken, say_answers
from edge_convert.agreement import agreement
from edge_convert.atomic import write_atomically
from edge_convert.auto import CANDIDATES, FOLDS, Candidate, weigh
from edge_convert.boosters import naming
from edge_convert.classifier import Estimator, inputs_of, split, title_of
from edge_convert.costs import Cost, measure
from edge_convert.deciding import Decision
from edge_convert.describe import Sheet, sheet_for
from edge_convert.evaluate import Evaluation, brief, default_jobs
from edge_convert.expecting import of_held_out, of_table
from edge_convert.explaining import trees_on_card
from edge_convert.families.refusals import hint_of
from edge_convert.fold import Folded, fold
from edge_convert.foreign.case import Hints
from edge_convert.foreign.model import Opened
from edge_convert.holdouts import flattery, require_held_out
from edge_convert.load import open_model
from edge_convert.modelcard import Draft, Identity, Origin, bounds_of, build_card, draft_card
from edge_convert.progress import progress_bar
from edge_convert.reference import Reference
from edge_convert.residuals import NumberEvaluation
from edge_convert.results import Trained, gap_of, say_scheme, say_threshold
from edge_convert.shapley import explained
from edge_convert.smaller import ADVICE
from edge_convert.tables import Table, TableChoice
from edge_convert.tasks import Answers, Classification, Regression, Task, quantities_of, task_of
from edge_convert.trainers import Trainer, blaming, trainer_for
from edge_convert.verify import GENERATED, Verification, require_self_test, require_verified, verify

Say = Callable[[str], object]

#: A process imports scikit-learn before it fits anything: seconds of work from which on several are faster than one.
_WORTH_PROCESSES: Final = 5.0

#: The kind that stands for whichever is worth it.
AUTO: Final = "auto"
_UNMEASURED: Final = card.Metrics(values={}, method="not measured by edge-convert")


@dataclass(frozen=True)
class Training:
    """How to train: the kind of estimator, and how to evaluate it (`repeats` 0: not at all; `jobs` None: as many as pay)."""

    kind: str
    repeats: int
    folds: int
    jobs: int | None
    #: What the model is to answer; with `auto` the target tells.
    task: str = "auto"
    units: tuple[str, ...] = ()
    contamination: float | None = None
    #: Parameters of the estimator that are not to be chosen.
    fixed: Mapping[str, Any] = field(default_factory=dict)
    decision: Decision | None = None

    def trainer(self, table: Table, say: Say) -> Trainer:
        """Return how to train on a table."""
        kind = CANDIDATES[0].kind if self.kind == AUTO else self.kind
        return trainer_for(
            table,
            kind,
            self.task,
            self.units,
            say,
            contamination=self.contamination,
            fixed=dict(self.fixed),
            decision=self.decision,
        )

    def processes(self, seconds: float) -> int:
        """Return how many processes evaluate, when one fit on all rows took the processor `seconds`: a fold is about that."""
        if self.jobs is not None:
            return self.jobs
        return 1 if seconds * self.folds * self.repeats < _WORTH_PROCESSES else default_jobs()


def train(
    choice: TableChoice,
    describe: Path | None,
    identity: Identity,
    training: Training,
    out: Path,
    *,
    seed: int,
    say: Say,
) -> Trained:
    """Fit an estimator on a table and write its model file. Raises `EdgeAgentError`; then nothing is written."""
    table = choice.read()
    trainer = training.trainer(table, say)
    auto, fixed = training.kind == AUTO, training.fixed
    trainer.require_trainable(training.folds if training.repeats else min(FOLDS, training.folds) if auto else 2)
    require_held_out(table)
    draft = draft_card(identity, table, _sheet(table, describe, say), trainer.task)
    trainer.say_table(say)
    flattered = flattery(table, table.labels if isinstance(trainer.task, Classification) else None)
    if training.repeats and flattered:
        say(f"note:  {flattered}")
    if auto:
        training = _recommended(table, training, seed, say)
        trainer = training.trainer(table, _nothing)
    started = time.process_time()
    with blaming(fixed):
        with progress_bar("choosing parameters") as progress:
            model, parameters = trainer.fit(seed, progress)
        draft = replace(draft, task=trainer.task)
        evaluation = _evaluated(trainer, training, seed, say, seconds=time.process_time() - started)
    say_threshold(model, evaluation, say)
    say(f"model: {trainer.title}: " + ", ".join(f"{name}={brief(value)}" for name, value in parameters.items()))
    metrics = _UNMEASURED if evaluation is None else evaluation.to_metrics()
    if auto and evaluation is not None:
        metrics = metrics.model_copy(update={"method": f"{metrics.method}; the kind was chosen by such figures"})
    origin = Origin(
        title_of(model),
        {**model.get_params(deep=False), **parameters},
        metrics,
        expected=lambda reference: of_held_out(evaluation) or of_table(reference, draft.task),
    )
    content, verification = model_file(
        model, draft, origin, seed=seed, say=say, smaller=lambda: trainer.smaller(parameters, seed)
    )
    write(out, content, say)
    return Trained(draft, training.kind, trainer.title, model, parameters, evaluation, verification)


def export(
    estimator: Path,
    choice: TableChoice,
    describe: Path | None,
    identity: Identity,
    out: Path,
    *,
    trust_pickle: bool,
    seed: int,
    say: Say,
    units: Sequence[str] = (),
    label_names: Sequence[str] = (),
    missing_value: float | None = None,
    tolerance: float | None = None,
    bounds: str = "sheet",
    outputs: Sequence[str] = (),
    scores: str | None = None,
) -> None:
    """Write the model file of an estimator that was fitted elsewhere; the table is what it was trained on."""
    opened = open_model(estimator, trust_pickle=trust_pickle)
    if isinstance(opened, Opened):
        if missing_value is not None:
            raise InputError(f"{estimator}: --missing-value is for XGBoost's own files (.json, .ubj)")
        table = opened.read_table(choice)
        model = opened.settled(table, Hints(tuple(outputs), scores, tuple(label_names)))
    else:
        if outputs or scores:
            raise InputError(
                f"{estimator}: --output and --scores are for ONNX files (.onnx); this model knows for itself"
            )
        model = naming.named(naming.with_missing(opened, missing_value, estimator), label_names, estimator)
        table = replace(choice, columns=choice.columns or inputs_of(model)[1]).read()
        require_codes_known(model, table)
    for sentence in naming.notes(model):
        say(f"model: {sentence}")
    n_features, _ = inputs_of(model)
    for sentence in (*table.left_out, *table.strange):
        say(f"table: {sentence}")
    sheet = _sheet(table, describe, say)
    if bounds == "data":
        sheet = sheet.bounded(table)
    if n_features != len(table.feature_names):
        raise InputError(
            f"{table.sources[0].path}: has {len(table.feature_names)} feature columns, the estimator was trained on "
            f"{n_features}; choose them with --columns"
        )
    task = _task_of_exported(model, choice, units)
    task = task if tolerance is None else task.within(tolerance)
    say_answers(task, model, say)
    draft = draft_card(identity, table, sheet, task)
    _, last = split(model)
    origin = Origin(
        title_of(model),
        last.get_params(deep=False),
        _UNMEASURED,
        dict(filter(None, [getattr(last, "library", None)])),
        lambda reference: of_table(reference, task),
    )
    content, _ = model_file(
        model,
        draft,
        origin,
        seed=seed,
        say=say,
        rows=getattr(model, "generated", GENERATED),
        seen=lambda answers: agreement(table, task, answers),
    )
    write(out, content, say)


def _task_of_exported(model: Estimator, choice: TableChoice, units: Sequence[str]) -> Task:
    """Return the task of an estimator; what it answers is called as the table's columns of targets are, if these are given."""
    task = task_of(model)
    assert task is not None  # noqa: S101 - else it would not have been opened
    if units and not isinstance(task, Regression):
        raise InputError("--unit is for a model that answers numbers")
    if not isinstance(task, Regression):
        return task
    names = choice.targets or [quantity.name for quantity in task.quantities]
    if len(names) != task.width:
        raise InputError(
            f"the estimator answers {task.width} numbers; give as many columns with --target, in its order"
        )
    return replace(task, quantities=quantities_of(names, units))


def _sheet(table: Table, describe: Path | None, say: Say) -> Sheet:
    """Return the feature sheet, and say so if nobody asked for it."""
    sheet = sheet_for(table.feature_names, describe)
    if describe is None and sheet.features:
        say(
            "sheet: the columns are called as Echonest's audio features are, so their units, bounds and examples go onto the card; "
            "if yours are others, --describe a sheet of your own (an empty file will do)"
        )
    return sheet


def model_file(
    model: Estimator,
    draft: Draft,
    origin: Origin,
    *,
    seed: int,
    say: Say,
    rows: int = GENERATED,
    smaller: Callable[[], Iterable[str]] = lambda: (ADVICE,),
    seen: Callable[[Answers], Iterable[str]] = lambda _answers: (),
) -> tuple[bytes, Verification]:
    """Return the bytes of a fitted model's file, and the comparison with scikit-learn on `rows` generated rows that its
    graph passed. The same arguments give the same bytes. `smaller` is asked what else there is where a device can't hold the model.

    Raises `InputError` if the model can't be exported and `ModelError` if the file would not answer as it does.
    """
    missing = bool(np.isnan(draft.table.X).any())
    folded = fold(model, missing=missing, words=draft.table.words_by_place)
    reference = Reference(model, draft.table.X, draft.task, words=folded.words, bounds=bounds_of(draft.features))
    if missing:
        require_gaps_taken(folded, draft, reference)
    if not folded.splits:
        say(
            f"note:  {title_of(model)} asks nothing of a row: every answer is the same; train it on more rows, or with smaller leaves"
        )
    for sentence in seen(reference.training):
        say(sentence)
    graph = draft.task.graph(folded)
    plain = graph.SerializeToString()
    say_cost(measure(plain, draft.table.X), smaller, say)
    verification = _verified(reference, folded, plain, rows, seed)
    if not verification.passed and (closer := draft.task.closer_graph(model, folded)) is not None:
        graph = closer
        verification = _verified(reference, folded, graph.SerializeToString(), rows, seed)
    require_verified(verification, draft.identity.name, hint_of(model))
    trees, why_none = trees_on_card(folded)
    if why_none:
        say(why_none)
    model_card = build_card(draft, origin, reference, folded, seed=seed, trees=trees)
    model_card, why_none = explained(model, folded, model_card)
    if why_none:
        say(why_none)
    graph.metadata_props.add(key=card.METADATA_KEY, value=model_card.to_json())
    content = seal(graph.SerializeToString(deterministic=True))
    require_self_test(content, model_card, draft.task)
    say(str(verification))
    return content, verification


def _verified(reference: Reference, folded: Folded, content: bytes, rows: int, seed: int) -> Verification:
    with progress_bar("verifying") as progress:
        return verify(reference, folded, content, rows=rows, seed=seed, progress=progress)


def say_cost(cost: Cost, smaller: Callable[[], Iterable[str]], say: Say) -> None:
    """Say what a model costs on a device, and where that is too much what else there is."""
    say(f"cost:  {cost}")
    if cost.trouble:
        say(f"note:  {cost.trouble}")
        for sentence in smaller():
            say(f"       {sentence}")


def write(path: Path, content: bytes, say: Say) -> None:
    """Write a file, whole or not at all, and say so."""
    write_atomically(path, content)
    say(f"wrote {path} ({len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()})")


def _recommended(table: Table, training: Training, seed: int, say: Say) -> Training:
    """Compare the kinds of estimator; return how to train the recommended one."""

    def of(candidate: Candidate) -> Training:
        return replace(training, kind=candidate.kind, fixed={**candidate.fixed, **training.fixed})

    several = bool(table.others)
    candidates = [one for one in CANDIDATES if not (several and one.kind == "boosting")]
    with progress_bar("comparing estimators") as progress:
        chosen = weigh(
            candidates,
            lambda one: of(one).trainer(table, _nothing),
            table.X,
            folds=training.folds,
            seed=seed,
            jobs=training.jobs or default_jobs(),
            progress=progress,
            say=say,
        )
    return of(chosen)


def _nothing(_sentence: str) -> None:
    """Say nothing: it was said already."""


def _evaluated(
    trainer: Trainer, training: Training, seed: int, say: Say, *, seconds: float
) -> Evaluation | NumberEvaluation | None:
    """Evaluate, if that is asked for. `seconds` is the processor's time for one fit on all rows."""
    if not training.repeats:
        return None
    with progress_bar("evaluating") as progress:
        evaluation = trainer.evaluate(
            repeats=training.repeats,
            folds=training.folds,
            seed=seed,
            jobs=training.processes(seconds),
            progress=progress,
        )
    for scheme in {} if evaluation is None else evaluation.schemes.values():
        say_scheme(scheme, say)
    if evaluation is not None and (gap := gap_of(evaluation.schemes)):
        say(f"note:  {gap}")
    return evaluation
