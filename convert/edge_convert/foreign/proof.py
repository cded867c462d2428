"""What is asked of a foreign file once it is known what it means, before a million rows are: whether it answers each row by itself.

The agent answers whatever messages arrive together in one go, so that an answer may depend on its own row only, and on any number of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputError
from edge_convert.reference import one_by_one
from edge_convert.sessions import Opened, open_session
from edge_convert.tables import Table
from edge_convert.tasks import Answers
from edge_convert.verify import run

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
    _require_any_number(model, graph, rows)
    alone = one_by_one(lambda some: task.ask(model, some), rows)
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


def _require_any_number(model: Foreign, graph: Opened, rows: NDArray[np.float64]) -> None:
    source = graph.session.get_inputs()[0]
    dtype = np.float64 if source.type == "tensor(double)" else np.float32
    for some in (rows[:1], rows[:3]):
        try:
            found = graph.session.run(None, {source.name: some.astype(dtype)})
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen kinds with no common base but Exception
            found, why = [], f" ({next(iter(str(error).strip().splitlines()), '')[:200]})"
        else:
            why = ""
        if not found or any(len(one) != len(some) for one in found):
            raise InputError(
                f"{model.original.path}: its graph does not answer {len(some)} rows at once{why}; export it with the first dimension free "
                "(torch.onnx.export: dynamic_axes={'input': {0: 'n'}}; Keras: an input of (None, columns))"
            )
