"""What a foreign file answers: labels with probabilities, labels alone, or numbers; and what its labels are called.

Names come from the graph, from `--label-names`, or are the values of the table's column of labels. The order of the latter is an assumption: it is said,
and the answers must fit the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from edge_agent.errors import InputError
from edge_convert.agreement import better_order
from edge_convert.foreign import naming
from edge_convert.foreign.case import Case, in_order, largest
from edge_convert.foreign.naming import Labels
from edge_convert.foreign.outputs import Asked
from edge_convert.foreign.scores import LABELS, NUMBERS, scores_of
from edge_convert.wording import some

#: The share of rows from which on label and largest number contradict each other, or agree, "nearly everywhere".
_NEARLY_ALL: Final = 0.9


@dataclass(frozen=True)
class Meaning:
    """What is made of the outputs `asked`. `width` numbers a row; `classes` are the labels as the file has them, in the order of its numbers, `names` as
    they are answered.
    """

    asked: Asked
    how: str
    width: int
    classes: Labels = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    #: Whether the order of `names` is assumed.
    assumed: bool = False


class _Named(NamedTuple):
    names: tuple[str, ...]
    note: str = ""
    assumed: bool = False


def settle(case: Case) -> Meaning:
    """Return what a file means. Raises `InputError` where that is not clear."""
    how, why = scores_of(case)
    if how == NUMBERS:
        return Meaning(case.asked._replace(label=None), NUMBERS, case.width, notes=(why,) if why else ())
    # The graph may tell from its numbers which labels there are, also where these are not answered.
    classes = _classes(case)
    if case.asked.label is not None and how == LABELS:
        case = case._replace(asked=case.asked.without_numbers, answered=case.answered._replace(numbers=None))
    named = _named(case, classes)
    if case.n_labels and len(named.names) != case.n_labels:
        raise InputError(
            f"{case.where}: has {len(named.names)} labels ({some(named.names)}), but {case.width} numbers for each row"
        )
    if not classes and case.is_numbered:
        classes = tuple(range(len(named.names))) if case.hints.label_names else tuple(map(int, named.names))
    classes = classes or named.names
    notes = filter(None, (why, named.note, _contradicted(case, classes)))
    return Meaning(case.asked, how, case.width, classes, named.names, tuple(notes), named.assumed)


def _classes(case: Case) -> Labels:
    """Return the labels as the file has them, in the order of its numbers; none where it does not tell."""
    wiring, asked = case.original.wiring, case.asked
    found = naming.labels_of_columns(wiring, asked.numbers) if asked.numbers is not None else ()
    if not found and asked.label is not None:
        found = naming.labels_of_answers(wiring, asked.label)
    found = found or asked.listed
    answered = case.answered.labels
    if (
        not found
        and case.n_labels
        and case.is_numbered
        and answered is not None
        and 0 <= answered.min() <= answered.max() < case.n_labels
    ):
        return tuple(range(case.n_labels))  # the places of the numbers
    return found


def _named(case: Case, classes: Labels) -> _Named:
    """Return the names of the labels in the order of the file's numbers."""
    given = case.hints.label_names
    numbered = bool(classes) and all(isinstance(one, int) for one in classes)
    if given and classes and not numbered and given != classes:
        raise InputError(
            f"{case.where}: --label-names is for files that number their labels; this one has {some(classes)}"
        )
    if given:
        return _Named(_given(case, given, len(classes) or case.n_labels))
    if classes:
        names = _sound(case, tuple(map(str, classes)))
        note = f"answers {some(names)}, as the file numbers its labels; --label-names A,B,... gives them names"
        return _Named(names, note if numbered else "")
    return _by_the_table(case) if case.answered.labels is None else _by_answers(case)


def _by_the_table(case: Case) -> _Named:
    values = in_order(case.targets[0].tolist()) if case.targets else ()
    if len(values) != case.n_labels:
        has = f"column {case.column} has {len(values)} values" if values else "there is no --target"
        raise InputError(
            f"{case.where}: does not tell what its {case.n_labels} labels are called, and {has}; give them in order with --label-names A,B,..."
        )
    note = (
        f"calls its {case.n_labels} labels {some(values)}: the values of column {case.column} in their order; other names or another order: --label-names "
        "A,B,..."
    )
    return _Named(_sound(case, values), note, assumed=True)


def _by_answers(case: Case) -> _Named:
    """Return the labels of a file that has them in its answers only."""
    if case.n_labels:
        raise InputError(
            f"{case.where}: does not tell which labels its numbers belong to; give them in order with --label-names, or --scores labels for labels alone"
        )
    if not case.targets:
        raise InputError(
            f"{case.where}: does not tell which labels there are; give them with --label-names, or --target, the column that holds them"
        )
    values = set(case.targets[0].tolist())
    if case.is_numbered and not all(value.removeprefix("-").isdecimal() for value in values):
        raise InputError(
            f"{case.where}: numbers its labels, and column {case.column} does not; name them in the order of their numbers with --label-names A,B,..."
        )
    seen = [] if case.answered.labels is None else case.answered.labels.tolist()
    names = _sound(case, in_order({*values, *map(str, seen)}))
    return _Named(
        names,
        f"knows of the labels {some(names)}: those of column {case.column} and of its own answers; the agent rejects any other",
    )


def _given(case: Case, given: Sequence[str], count: int) -> tuple[str, ...]:
    names = tuple(given)
    if len(names) != count:  # one by one, a name may have a comma
        names = tuple(part.strip() for name in given for part in name.split(","))
    if count and len(names) != count:
        raise InputError(f"{case.where}: has {count} labels; --label-names has {len(names)}: {some(names)}")
    return _sound(case, names)


def _sound(case: Case, names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(names) or len(set(names)) < len(names) or len(names) < 2:
        raise InputError(
            f"{case.where}: its labels are {some(map(repr, names))}; a model has two or more, each a text of its own: see --label-names"
        )
    return names


def _contradicted(case: Case, classes: Labels) -> str:
    """Return a sentence where the label is not the one of the largest number: the file is the truth, but nobody expects that."""
    labels, numbers = case.answered.labels, case.answered.numbers
    if labels is None or numbers is None or case.width < 2:
        return ""
    called = np.array(list(map(str, classes)))
    labels, best = labels.astype(str), called[largest(numbers)]
    others = int((labels != best).sum())
    if not others:
        return ""
    other = better_order(called.tolist(), best, labels)
    if others > _NEARLY_ALL * len(labels) or (other is not None and other[1] > _NEARLY_ALL):
        fits = f"; in the order {some(other[0])} they would agree in {other[1]:.1%}" if other is not None else ""
        raise InputError(
            f"{case.where}: its label is not the one with the largest number in {others:,} of {len(labels):,} rows, where its numbers are taken to be those of "
            f"{some(classes)}, in this order{fits}; which number belongs to which label is not clear: --scores labels leaves the numbers out, or --output "
            "the labels or the numbers alone"
        )
    return (
        f"its label is not the one with the largest probability in {others:,} of {len(labels):,} rows; both are answered as they are (--scores labels "
        "leaves the probabilities out)"
    )
