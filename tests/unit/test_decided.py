"""A model that answers labels only (a LinearSVC on iris, recorded): `try`, SenML, batches, and routes that ask for a confidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli.main import cli
from edge_agent.contract.seal import is_sealed
from edge_agent.errors import SettingsError
from edge_agent.model.onnx import Predictor

MODEL = Path(__file__).parent / "fixtures" / "decided.onnx"
ROW = {"sl": 5.1, "sw": 3.5, "pl": 1.4, "pw": 0.2}
OTHER = {"sl": 6.7, "sw": 3.0, "pl": 5.2, "pw": 2.3}
ANSWER = {"label": "setosa", "model": "svc", "version": "1.0.0"}
PACK = [{"bn": "dev:", "n": "sl", "v": 5.1}, *({"n": name, "v": ROW[name]} for name in ("sw", "pl", "pw"))]


def routes(tmp_path: Path, more: str = "") -> str:
    """A configuration with the model behind a route for SenML."""
    (tmp_path / "svc.onnx").write_bytes(MODEL.read_bytes())
    path = tmp_path / "a.toml"
    path.write_text(
        f'[models]\ndirectory = "{tmp_path}"\n[[route]]\nmodel = "svc"\nsubscribe = "s/{{x}}"\npublish = "s/{{x}}/out"\n{more}\n'
    )
    return str(path)


def tried(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(cli, ["try", *arguments])
    assert done.exit_code == status, done.output
    return str(done.stdout)


def test_it_passes_its_self_test_here() -> None:
    content = MODEL.read_bytes()
    assert is_sealed(content, where="decided.onnx")
    predictor = Predictor(content, where="decided.onnx")
    assert not predictor.card.has_probabilities
    assert predictor.self_test_difference == 0


def test_try_answers_a_label_and_nothing_else() -> None:
    assert json.loads(tried("--model", str(MODEL), json.dumps(ROW))) == ANSWER
    both = json.loads(tried("--model", str(MODEL), json.dumps([ROW, OTHER])))
    assert [one["label"] for one in both] == ["setosa", "virginica"]
    assert set(both[1]) == set(ANSWER)


def test_try_without_input_shows_no_confidence() -> None:
    shown = tried("--model", str(MODEL))
    assert shown.splitlines()[-1].split() == ["label", "versicolor"]
    assert "confidence" not in shown


def test_senml_answers_with_a_record_for_the_label(tmp_path: Path) -> None:
    config = routes(tmp_path, 'content_type = "application/senml+json"')
    answer = json.loads(tried("--config", config, "--topic", "s/1", json.dumps(PACK)))
    assert answer == {
        "topic": "s/1/out",
        "payload": [
            {"bn": "dev:", "n": "label", "vs": "setosa"},
            {"n": "model", "vs": "svc"},
            {"n": "version", "vs": "1.0.0"},
        ],
    }


def test_no_route_asks_it_for_a_confidence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the answers of model 'svc' .* have no confidence; remove min_confidence"):
        CliRunner().invoke(
            cli,
            ["try", "--config", routes(tmp_path, "min_confidence = 0.5"), "--topic", "s/1", "{}"],
            catch_exceptions=False,
        )
