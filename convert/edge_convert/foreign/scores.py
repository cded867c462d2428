"""What the numbers of a foreign file are: probabilities, logits, numbers to answer, or mere scores.

The graph decides where it tells (numbers beside a label, a Softmax), then the table (as many numbers as columns of targets), then the person
(`--scores`). What none of them tells is refused, with the ways out.
"""

from __future__ import annotations

from typing import Final

from edge_agent.errors import InputError
from edge_convert.foreign import naming
from edge_convert.foreign.case import Case, is_numeric

#: LABELS: the label alone is answered. NUMBERS: values. All others: a label with probabilities.
PROBABILITIES: Final = "probabilities"
SOFTMAX: Final = "softmax"
SIGMOID: Final = "sigmoid"
NUMBERS: Final = "numbers"
LABELS: Final = "labels"

Found = tuple[str, str]


def scores_of(case: Case) -> Found:
    """Return what the numbers are, and a sentence about how that is known ("" where nobody would ask). Raises `InputError` where it is not."""
    told = case.hints.scores
    if case.answered.numbers is None:
        if told not in {None, LABELS}:
            raise InputError(
                f"{case.where}: --scores {told}: the file answers labels only ({case.asked.label!r}); remove it"
            )
        return LABELS, "answers labels without probabilities: the file has none"
    if told is not None:
        return _told(case, told), ""
    if case.asked.label is not None or case.asked.zipped:
        return _beside_a_label(case)
    return _of_several(case) if case.width > 1 else _of_one(case)


def _told(case: Case, told: str) -> str:
    if told == SIGMOID and case.width != 1:
        raise InputError(
            f"{case.where}: --scores sigmoid is for one logit; the file has {case.width} numbers for each row"
        )
    if case.width == 1 and (told == SOFTMAX or (told == LABELS and case.asked.label is None)):
        raise InputError(f"{case.where}: --scores {told} is for a number for each label; the file has one for each row")
    if told == PROBABILITIES and not case.has_probabilities:
        raise InputError(
            f"{case.where}: --scores probabilities: the numbers in {case.asked.numbers!r} don't lie between 0 and 1 and sum to 1 in every row of "
            "the table; softmax and sigmoid make probabilities of logits"
        )
    return told


def _beside_a_label(case: Case) -> Found:
    if case.width > 1 and case.has_probabilities:
        return PROBABILITIES, ""
    return LABELS, (
        f"answers labels without probabilities: the numbers in {case.asked.numbers!r} don't lie between 0 and 1 and sum to 1 (--scores softmax, where "
        "they are logits)"
    )


def _of_several(case: Case) -> Found:
    width, name = case.width, case.asked.numbers
    if len(case.targets) == width and all(map(is_numeric, case.targets)):
        return NUMBERS, f"answers {width} numbers, as many as there are --target columns"
    made = naming.operator_behind(case.original.wiring, name or "") == "Softmax"
    if made or case.has_probabilities:
        because = "a Softmax makes them" if made else "they sum to 1 in every row of the table"
        return PROBABILITIES, f"takes the {width} numbers in {name!r} for probabilities, since {because}"
    raise InputError(
        f"{case.where}: whether the {width} numbers in {name!r} are logits, scores or numbers to answer is not clear; say --scores softmax (logits), "
        "labels (the largest is the label, no probabilities) or numbers (as they are)"
    )


def _of_one(case: Case) -> Found:
    name, targets = case.asked.numbers, case.targets
    sigmoid = naming.operator_behind(case.original.wiring, name or "") == "Sigmoid"
    if sigmoid and len(targets) == 1 and len(set(targets[0].tolist())) == 2:
        return PROBABILITIES, (
            f"takes the number in {name!r} for the second label's probability, since a Sigmoid makes it and {case.column} has two values"
        )
    many = bool(targets) and all(is_numeric(one) and len(set(one.tolist())) > 2 for one in targets)
    if many or not (targets or sigmoid):
        return NUMBERS, f"answers the number in {name!r} as it is"
    raise InputError(
        f"{case.where}: whether the number in {name!r} is a probability, a logit or a number to answer is not clear; say --scores probabilities (of "
        "the second label), sigmoid (a logit) or numbers (as it is)"
    )
