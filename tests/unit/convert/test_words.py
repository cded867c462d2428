"""Columns of words: what a tree is trained on, and what the agent answers when a message has the words."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_convert.classifier import Classifier, title_of
from edge_convert.comparing import compare
from edge_convert.describe import sheet_for
from edge_convert.estimators import KINDS, fit
from edge_convert.modelcard import Identity, Origin, draft_card
from edge_convert.modelfile import read_model
from edge_convert.tables import TableChoice, read_table
from edge_convert.tasks import Classification
from edge_convert.words import Words
from edge_convert.workflow import export, model_file

from edge_agent.contract import card
from edge_agent.contract.messages import Message
from edge_agent.errors import InputError
from edge_agent.model.onnx import Predictor
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE

IDENTITY = Identity("comfort", "1.0.0", "2026-01-31")
COLUMNS = ("temperature", "window", "heater", "level", "comfort")


def rows(n: int = 150) -> list[list[Any]]:
    rng = np.random.default_rng(0)
    made: list[list[Any]] = []
    for temperature in np.round(rng.uniform(10, 30, n), 1).tolist():
        window, heater = bool(rng.integers(2)), bool(rng.integers(2))
        level = ("H", "L", "M")[rng.integers(3)]
        warm = temperature + 4 * heater - 6 * window + {"L": -3, "M": 0, "H": 3}[level] > 20
        made.append(
            [temperature, "ON" if window else "OFF", heater, level, "good" if warm != (rng.random() < 0.05) else "bad"]
        )
    return made


def write(path: Path, content: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *content])
    return path


def trained(path: Path, out: Path, kind: str, describe: Path | None = None) -> Classifier:
    """Do as `train` does, with fewer rows to compare."""
    table = TableChoice(data=path, target="comfort").read()
    draft = draft_card(
        IDENTITY, table, sheet_for(table.feature_names, describe), Classification(tuple(table.class_counts))
    )
    model, parameters = fit(KINDS[kind], table.X, table.truth, 0)
    origin = Origin(title_of(model), parameters, card.Metrics(values={}, method="not measured"))
    out.write_bytes(model_file(model, draft, origin, seed=0, rows=5000, say=lambda _sentence: None)[0])
    return model


@pytest.mark.parametrize("kind", ["tree", "boosting"])
def test_what_is_trained_on_words_answers_to_words_as_scikit_learn_does(kind: str, tmp_path: Path) -> None:
    content, out = rows(), tmp_path / "comfort.onnx"
    model = trained(write(tmp_path / "t.csv", content), out, kind)
    predictor = Predictor(out.read_bytes(), where="comfort.onnx")
    temperature, window, heater, level = predictor.card.features
    assert (window.kind, heater.kind, level.kind, level.categories) == (
        "boolean",
        "boolean",
        "category",
        ("H", "L", "M"),
    )
    assert temperature.kind == "number"
    pipeline = Pipeline([ROUTE], {"genre": predictor})
    codes = [[row[0], row[1] == "ON", row[2], "HLM".index(row[3])] for row in content]
    expected = model.predict_proba(np.array(codes, dtype=np.float32).astype(np.float64))
    for row, right in zip(content, expected, strict=True):
        payload = json.dumps(dict(zip(COLUMNS[:4], row[:4], strict=True))).encode()
        ((answer,),) = pipeline.process([Message("music/a/features", payload)])
        told = json.loads(answer.payload)
        assert [told["probabilities"][label] for label in ("bad", "good")] == pytest.approx(right, abs=2e-6)
    ((answer,),) = pipeline.process([Message("music/a/features", payload.replace(b'"level": "', b'"level": "X'))])
    assert json.loads(answer.payload)["detail"][0]["msg"] == "Input should be one of 'H', 'L', 'M'"


def test_a_table_is_compared_with_the_words_of_the_card(tmp_path: Path) -> None:
    import joblib

    out, estimator, said = tmp_path / "comfort.onnx", tmp_path / "tree.joblib", list[str]()
    joblib.dump(trained(write(tmp_path / "t.csv", rows()), out, "tree"), estimator)
    # Without H, L and M would have other codes.
    fewer = write(tmp_path / "fewer.csv", [row for row in rows() if row[3] != "H"])
    choice = TableChoice(data=fewer, target="comfort")
    compare(out, estimator, choice, trust_pickle=True, rows=5000, seed=0, say=said.append)
    other = write(tmp_path / "other.csv", [[*row[:3], "XL", row[4]] for row in rows()])
    with pytest.raises(InputError, match=r"column 'level', row 2: 'XL' is not one of 'H', 'L', 'M'"):
        compare(
            out,
            estimator,
            TableChoice(data=other, target="comfort"),
            trust_pickle=True,
            rows=9,
            seed=0,
            say=said.append,
        )
    with pytest.raises(InputError, match="column 'level' holds words, and how the estimator codes them is not known"):
        export(
            estimator,
            TableChoice(data=fewer, target="comfort"),
            None,
            IDENTITY,
            out,
            trust_pickle=True,
            seed=0,
            say=said.append,
        )


def test_examples_of_a_sheet_have_words(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.toml"
    example = (
        'name = "a window"\nlabel = "good"\n[examples.features]\ntemperature = 21\nwindow = "open"\nheater = true\n'
    )
    sheet.write_text(f'[[examples]]\n{example}level = "M"\n'.replace('label = "good"\n', ""))
    path = write(tmp_path / "t.csv", rows())
    trained(path, tmp_path / "comfort.onnx", "tree", sheet)
    _, found = read_model(tmp_path / "comfort.onnx")
    assert found.examples[0].features == (21, 1, 1, 2)
    sheet.write_text(sheet.read_text().replace('"M"', '"XL"'))
    with pytest.raises(InputError, match="example 'a window': level: 'XL' is not one of"):
        trained(path, tmp_path / "comfort.onnx", "tree", sheet)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["True", "False"], Words("boolean")),
        (["ON", "off"], Words("boolean")),
        (["open", "Closed"], Words("boolean")),
        (["yes", "maybe"], Words("category", ("maybe", "yes"))),
        ([" L", "H ", "L"], Words("category", ("H", "L"))),
        (["1", "0"], None),
        (["1A", "1B"], Words("category", ("1A", "1B"))),
        (["1-5", "6-5"], Words("category", ("1-5", "6-5"))),
    ],
)
def test_what_a_column_is(cells: list[str], words: Words | None, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a\n" + "\n".join(cells) + "\n")
    assert read_table(file, target=None).words == ({} if words is None else {"a": words})


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["L", "M", ""], "values are missing in 1 of 3 rows: column 'a' in 1 (first in row 4)"),
        (["L", "L"], "row 2: 'L' is not a number"),
        (["L", "5"], "row 2: 'L' is not a number"),
        (
            [f"word {number}" for number in range(257)],
            "column 'a': has 257 different words; a category has at most 256",
        ),
        (["L", "M\x1b"], "is not a name of"),
        (["41%", "40%", "41%"], "column 'a': has numbers with a unit ('40%'); remove the unit"),
        (["-1.5 °C", "20 °C"], "column 'a': has numbers with a unit ('-1.5 °C'); remove the unit"),
        ([f"{number} km/h" for number in range(300)], "column 'a': has numbers with a unit ('0 km/h')"),
    ],
)
def test_columns_that_are_neither(cells: list[str], says: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n" + "\n".join(f"{cell},1" for cell in cells) + "\n")
    with pytest.raises(InputError) as raised:
        read_table(file, target=None)
    assert says in str(raised.value)
    assert "values are missing" in says or "values are missing" not in str(raised.value)
