"""What is asked of a foreign file once it is known what it means, before a million rows are: whether names and answers fit, and whether
it answers each row by itself.

The agent answers whatever messages arrive together in one go, so that an answer may depend on its own row only, and on any number of rows.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputError
from edge_convert.agreement import better_order
from edge_convert.reference import one_by_one
from edge_convert.sessions import Opened, open_session
from edge_convert.tables import Table
from edge_convert.tasks import Answers, Task
from edge_convert.verify import run
from edge_convert.wording import first_line, some

if TYPE_CHECKING:
    from edge_convert.foreign.model import Foreign

_ROWS: Final = 64
#: Products are added up in another order where there are more rows: shares of how far an answer's numbers lie apart, and of the largest, in steps of its type.
_OF_SPREAD: Final = 1e-3
_STEPS: Final = 8


def require_each_row_by_itself(model: Foreign, table: Table) -> None:
    """Refuse a file whose graph holds for its own number of rows only, or whose answer to a row depends on the rows beside it."""
    rows = table.X[np.unique(np.linspace(0, len(table.X) - 1, _ROWS).astype(np.int64))]
    task, graph = model.own_task(), open_session(model.graph().SerializeToString())
    _require_any_number(model, task, graph, rows)
    alone = one_by_one(lambda row: task.ask(model, row), rows)
    backwards = task.ask(model, rows[::-1])
    others = {
        "in one batch": task.ask(model, rows),
        "in another order": Answers(*(part[::-1] for part in backwards)),
        "in one batch of the new graph": run(graph, rows, task),
    }
    for how, found in others.items():
        if apart := int(_differ(alone, found, model.step).sum()):
            raise InputError(
                f"{model.original.path}: its answer to a row depends on the rows beside it: {apart} of {len(rows)} rows have another answer {how} than "
                "alone (BatchNormalization in training mode? Softmax over axis 0? dynamic quantization?); export it with model.eval(), and with nothing "
                "computed over the rows"
            )


def names_agree(model: Foreign, table: Table) -> list[str]:
    """Return sentences about names whose order the table does not confirm. Raises `InputError` where it is assumed, and another one fits better."""
    names, answered = model.meaning.names, model.labels_of(table.X).labels
    share = float(np.mean(answered == table.truth))
    most = max(table.class_counts.values()) / len(table.X)
    other = better_order(names, answered, table.truth)
    fits = "" if other is None else f": {_option(other[0])} would agree with {other[1]:.1%} of the rows"
    if not model.meaning.assumed:
        return [f"has names in another order than the table{fits}, these with {share:.1%}"] if fits else []
    if fits or share < most:
        less = f", less than the commonest label for each ({most:.1%})" if share < most else ""
        raise InputError(
            f"{model.original.path}: does not tell what its labels are called, and with the values of column {table.label_column!r} in their order "
            f"({some(names)}) it agrees with {share:.1%} of the rows{less}; give their names in its own order with --label-names{fits}; and see that the "
            "columns are in its order (--columns)"
        )
    never = [name for name in names if name not in set(answered.tolist())]
    if not never:
        return []
    return [
        f"answers {some(map(repr, never))} for no row of the table, which so can't tell whether the order of the names is right"
    ]


def _option(names: Sequence[str]) -> str:
    """Return names as they are given on the command line: one by one where one has a comma."""
    together = [",".join(names)] if not any("," in name for name in names) else names
    return " ".join(f"--label-names {shlex.quote(one)}" for one in together)


def _differ(alone: Answers, beside: Answers, step: float) -> NDArray[np.bool_]:
    """Return for each row whether two answers are not the same, (n,)."""
    one, other = alone.numbers, beside.numbers
    found: NDArray[np.bool_] = alone.labels != beside.labels
    if not one.shape[1]:
        return found
    both = np.where(np.isfinite([one, other]), [one, other], 0.0).reshape(-1, one.shape[1])
    tolerance = _OF_SPREAD * np.ptp(both, axis=0) + _STEPS * step * np.abs(both).max(axis=0)
    found |= ~np.isclose(other, one, rtol=0.0, atol=tolerance, equal_nan=True).all(axis=1)
    return found


def _require_any_number(model: Foreign, task: Task, graph: Opened, rows: NDArray[np.float64]) -> None:
    for few in (rows[:1], rows[:3]):
        found, why = None, ""
        try:
            found = run(graph, few, task)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen kinds with no common base but Exception
            why = f" ({first_line(error)[:200]})"
        if found is None or any(len(part) != len(few) for part in found):
            raise InputError(
                f"{model.original.path}: its graph does not answer {len(few)} rows at once{why}; export it with the first dimension free "
                "(torch.onnx.export: dynamic_axes={'input': {0: 'n'}}; Keras: an input of (None, columns))"
            )
