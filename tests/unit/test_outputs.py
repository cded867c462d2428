"""What a model answers is known in one place: labels, and a kind of answer that only this file knows."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_agent.cli.try_ import table_of_examples
from edge_agent.contract.answers import Each
from edge_agent.contract.card import Example, ModelCard
from edge_agent.contract.messages import Message, to_json
from edge_agent.contract.templates import Template
from edge_agent.errors import ModelError
from edge_agent.model.library import locate
from edge_agent.model.onnx import Predictor
from edge_agent.model.outputs import Arrays, Output, UnfitError, output_of
from edge_agent.payload.cbor import CONTENT_TYPE as CBOR_TYPE
from edge_agent.payload.senml import CONTENT_TYPE as SENML_TYPE
from edge_agent.routing.routes import Route
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeModel, make_card

CONTENT = locate("genre").read_bytes()
CARD = make_card()
LABELS = output_of(CARD)
OWN = make_card().model_copy(
    update={
        "examples": tuple(
            Example(name=name, features=(value,), label="Rock")
            for name, value in (("half", 0.5), ("full", 1.0), ("broken", 0.0))
        )
    }
)
ROUTE = Route("paint", Template("mix"), Template("mixed"), Template("mixed/error"))


class Parts(Each):
    """How much there is of each color."""

    one = "part"


class Paint:
    """How much paint comes out, and of which colors."""

    names: tuple[str, ...] = ("litres", "parts")
    width = 3
    summary = "paint"
    columns = ("litres", "mostly")
    has_confidence = False
    described: Mapping[str, object] = {"colors": ["red", "blue/green"]}

    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        return np.abs(arrays[0])

    def check(self, arrays: Arrays) -> None:
        """All goes."""

    def pack(self, arrays: Arrays) -> Sequence[Hashable]:
        return list(zip(arrays[0].tolist(), map(tuple, arrays[1].tolist()), strict=True))

    def read(self, packed: Any) -> Any:
        return packed

    def fields(self, values: Any) -> Mapping[str, object]:
        litres, parts = values
        if not litres:
            raise ValueError("no paint")
        return {
            "litres": litres,
            "parts": Parts(zip(("red", "blue/green"), parts, strict=True)),
            "full": litres == 1,
        }

    def doubted(self, fields: Mapping[str, Any], least: float) -> None:
        """Return nothing: there is no doubt about paint."""

    def cells(self, answer: Mapping[str, Any]) -> tuple[str, ...]:
        return f"{answer['litres']:g} l", max(answer["parts"], key=answer["parts"].__getitem__)


class Mixer(FakeModel):
    """Gives as many litres as the feature says."""

    def __init__(self, output: Output) -> None:
        super().__init__(OWN, output)

    def predict(self, rows: Sequence[Sequence[float]]) -> Sequence[Hashable]:
        return self.output.pack([np.array([row[0] for row in rows]), np.array([[0.25, row[0]] for row in rows])])

    def read(self, output: Any) -> Any:
        return self.output.read(output)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline([ROUTE], {"paint": Mixer(Paint())})


def ask(pipeline: Pipeline, question: object, content_type: str | None = None) -> tuple[str, bytes]:
    return process(pipeline, to_json(question), content_type)


def process(pipeline: Pipeline, payload: bytes, content_type: str | None) -> tuple[str, bytes]:
    (((topic, answer, *_),),) = pipeline.process([Message("mix", payload, 0, content_type)])
    return topic, answer


def test_a_kind_of_its_own_goes_out_as_json(pipeline: Pipeline) -> None:
    half = '{"litres":0.5,"parts":{"red":0.25,"blue/green":0.5},"full":false,"model":"genre","version":"1.0.0"'
    full = '{"litres":1.0,"parts":{"red":0.25,"blue/green":1.0},"full":true,"model":"genre","version":"1.0.0"'
    assert ask(pipeline, {"loudness": 0.5}) == ("mixed", f"{half}}}".encode())
    assert ask(pipeline, {"loudness": 0.5, "id": {"a": 1}}) == ("mixed", f'{half},"id":{{"a":1}}}}'.encode())
    batch = [{"loudness": 0.5, "id": 7}, {"loudness": 1, "id": 8}, {"loudness": 0.5, "id": 9}]
    assert ask(pipeline, batch) == ("mixed", f'[{half},"id":7}},{full},"id":8}},{half},"id":9}}]'.encode())
    assert (pipeline.tally.total.predictions, sum(pipeline.tally.total.rejections.values())) == (5, 0)


def test_in_cbor(pipeline: Pipeline) -> None:
    cbor2 = pytest.importorskip("cbor2", reason="cbor2 is not installed: pip install '.[cbor]'")
    _, payload = process(pipeline, cbor2.dumps({"loudness": 0.5}), CBOR_TYPE)
    assert cbor2.loads(payload) == {
        "litres": 0.5,
        "parts": {"red": 0.25, "blue/green": 0.5},
        "full": False,
        "model": "genre",
        "version": "1.0.0",
    }


def test_in_senml_with_its_numbers_one_by_one(pipeline: Pipeline) -> None:
    pack = [{"bn": "dev:", "n": "loudness", "v": 0.5}]
    _, payload = ask(pipeline, pack, SENML_TYPE)
    assert json.loads(payload) == [
        {"bn": "dev:", "n": "litres", "v": 0.5},
        {"n": "part/red", "v": 0.25},
        {"n": "part/blue_2Fgreen", "v": 0.5},
        {"n": "full", "vb": False},
        {"n": "model", "vs": "genre"},
        {"n": "version", "vs": "1.0.0"},
    ]


def test_what_it_will_not_have_is_rejected(pipeline: Pipeline) -> None:
    topic, payload = ask(pipeline, {"loudness": 0})
    assert (topic, json.loads(payload)["error"]) == ("mixed/error", "inference_failed")
    _, payload = ask(pipeline, [{"loudness": 1}, {"loudness": 0}])
    assert [row.get("error", row.get("litres")) for row in json.loads(payload)] == [1.0, "inference_failed"]


def test_in_the_table_of_try() -> None:
    model = Mixer(Paint())
    route = Route("model", Template("try"), Template("prediction"), Template("rejection"))
    assert list(table_of_examples(Pipeline([route], {"model": model}), model)) == [
        "feature   half        full        broken            unit",
        "--------  ----------  ----------  ----------------  ----",
        "loudness  0.5         1           0",
        "--------  ----------  ----------  ----------------  ----",
        "litres    0.5 l       1 l         inference_failed",
        "mostly    blue/green  blue/green",
    ]


class Surest(Paint):
    """The largest of the probabilities: made of what the bundled model gives beside its label."""

    names: tuple[str, ...] = ("probabilities",)

    def __init__(self, card: ModelCard) -> None:
        self._expected: npt.NDArray[np.float64] = np.asarray(card.self_test.probabilities).max(axis=1)

    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        largest: npt.NDArray[np.float64] = arrays[0].max(axis=1)
        return np.abs(largest - self._expected)

    def pack(self, arrays: Arrays) -> Sequence[Hashable]:
        return arrays[0].max(axis=1).tolist()  # type: ignore[no-any-return]

    def fields(self, values: Any) -> Mapping[str, object]:
        return {"surest": round(values, 6)}


def test_a_model_file_is_asked_for_what_the_kind_needs() -> None:
    model = Predictor(CONTENT, where="a file", kind=Surest)
    assert model.self_test_difference < 1e-6
    route = Route("genre", Template("a"), Template("b"), Template("c"))
    rows = json.dumps([dict(zip(model.card.feature_names, row, strict=True)) for row in model.card.self_test.rows])
    ((answer,),) = Pipeline([route], {"genre": model}).process([Message("a", rows.encode())])
    expected = [max(row) for row in model.card.self_test.probabilities]
    assert [row["surest"] for row in json.loads(answer.payload)] == pytest.approx(expected, abs=1e-6)


class Absent(Surest):
    names = ("probabilities", "litres")


class Other(Surest):
    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        return np.where(np.arange(len(arrays[0])) == 3, math.nan, 0)


class Odd(Surest):
    def differences(self, arrays: Arrays) -> npt.NDArray[np.float64]:
        raise UnfitError(f"it must return more than {len(arrays)}")


class Unwanted(Surest):
    def check(self, arrays: Arrays) -> None:
        raise UnfitError(f"these {len(arrays[0])} must not go out")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Absent, "and return 'probabilities' and 'litres'; write it again"),
        (Other, r"the self-test failed on 1 of \d+ rows \(first: row 3\)"),
        (Odd, "a file: the graph does not match its card: it must return more than 1; write it again"),
        (Unwanted, r"a file: these \d+ must not go out; write it again"),
    ],
)
def test_what_does_not_fit_the_kind_is_not_served(kind: type[Surest], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        Predictor(CONTENT, where="a file", kind=kind)


def arrays(*rows: tuple[str, list[float]]) -> Arrays:
    """Return what a graph gives, in Python's own types."""
    return [np.array([label for label, _ in rows], object), np.array([values for _, values in rows], np.float32)]


def test_labels_are_packed_so_that_equal_answers_are_equal() -> None:
    one, two, three = LABELS.pack(arrays(("Rock", [0.25, 0.75]), ("Rock", [0.25, 0.75]), ("Hip-Hop", [0.75, 0.25])))
    assert one == two != three
    assert LABELS.read(one) == ("Rock", [0.25, 0.75])
    assert LABELS.read(LABELS.pack(arrays(("Rock", [0.1, 0.9])))[0]) == (
        "Rock",
        [0.1, 0.9],
    )  # and not as float32 has it


def test_what_a_label_is_on_the_wire_in_the_info_and_to_people() -> None:
    fields = LABELS.fields(("Rock", [0.25, 0.75]))
    assert to_json(fields) == b'{"label":"Rock","confidence":0.75,"probabilities":{"Hip-Hop":0.25,"Rock":0.75}}'
    assert (LABELS.described, LABELS.summary) == ({"labels": ["Hip-Hop", "Rock"]}, "Hip-Hop, Rock")
    assert dict(zip(LABELS.columns, LABELS.cells(fields), strict=True)) == {"label": "Rock", "confidence": "0.750"}


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        (("Hip-Hop", [1.0, 0.0]), 0.0),
        (("Hip-Hop", [0.75, 0.5]), 0.5),
        (("Rock", [1.0, 0.0]), math.inf),
        (("Hip-Hop", [math.nan, 0.0]), math.nan),
    ],
)
def test_the_self_test_is_compared_label_by_label(given: tuple[str, list[float]], difference: float) -> None:
    assert LABELS.differences(arrays(given)).tolist() == pytest.approx([difference], nan_ok=True)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (arrays(("Rock", [1.0, 0.0]), ("Rock", [1.0, 0.0])), r"for 1 rows it must .* \(1, 2\); it returns \(2,\) and \(2, 2\)"),
        (arrays(("Rock", [1.0, 0.0, 0.0])), r"it returns \(1,\) and \(1, 3\)"),
        ([np.array([["Rock"]], object), np.array([[1.0, 0.0]])], r"it returns \(1, 1\) and \(1, 2\)"),
    ],
)  # fmt: skip
def test_another_shape_is_refused(given: Arrays, reason: str) -> None:
    with pytest.raises(UnfitError, match=reason):
        LABELS.differences(given)


def test_what_are_no_probabilities_is_refused_whatever_the_self_test_says() -> None:
    LABELS.check(arrays(("Rock", [0.25, 0.75])))
    with pytest.raises(
        UnfitError, match=r"row 1 of the self-test gives invalid probabilities: .* between 0 and 1 and sum to 1$"
    ):
        LABELS.check(arrays(("Rock", [0.25, 0.75]), ("Rock", [0.5, 0.75])))
    with pytest.raises(ValueError, match="not valid probabilities"):
        LABELS.fields(("Rock", [0.5, 0.75]))
