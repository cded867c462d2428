"""The bundled model, and files that must not be served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.contract.manifest import MAX_MODEL_BYTES
from edge_agent.contract.messages import Message
from edge_agent.contract.seal import seal
from edge_agent.errors import CardError, ModelError
from edge_agent.model.library import locate, open_file
from edge_agent.model.onnx import Predictor, runtime_version
from edge_agent.model.outputs import DECIMALS
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE

#: The article's two tracks: acousticness, danceability, energy, instrumentalness, liveness, speechiness, tempo, valence.
HIP_HOP = (0.344719513, 0.758067547, 0.323318405, 0.0166768347, 0.0856723112, 0.0306624283, 101.993, 0.443876228)
ROCK = (0.362731324, 0.383351767, 0.586098673, 0.375382953, 0.275548126, 0.028725005, 113.747, 0.286459198)

BUNDLED = locate("genre")
CONTENT = BUNDLED.read_bytes()


def refused(content: bytes, kind: type[ModelError] = ModelError) -> str:
    with pytest.raises(kind) as raised:
        Predictor(content, where="tree.onnx")
    message = str(raised.value)
    assert message.startswith("tree.onnx: ")
    assert "\n" not in message
    assert len(message) < 1000
    return message


def replaced(old: bytes, new: bytes) -> bytes:
    """The bundled file with one piece changed, of the same length, for protobuf counts bytes; sealed again."""
    assert len(old) == len(new)
    assert CONTENT.count(old) >= 1
    return seal(CONTENT.replace(old, new, 1))


@pytest.fixture(scope="module")
def genre() -> Predictor:
    return open_file(BUNDLED)


def test_the_article_s_tracks(genre: Predictor) -> None:
    (first, hip_hop), (second, rock) = map(genre.read, genre.predict([HIP_HOP, ROCK]))
    assert (first, second) == ("Hip-Hop", "Rock") == genre.card.labels
    for row in (hip_hop, rock):
        assert sum(row) == pytest.approx(1, abs=2 * 10**-DECIMALS)
        assert all(value == round(value, DECIMALS) for value in row)
    assert hip_hop[0] > 0.5 < rock[1]


def test_one_row_at_a_time_is_the_same_as_all_together(genre: Predictor) -> None:
    rows = [HIP_HOP, ROCK] * 50
    for row, output in zip(rows, genre.predict(rows), strict=True):
        assert genre.predict([row]) == [output]


def test_the_extremes_that_the_card_allows(genre: Predictor) -> None:
    pipeline = Pipeline([ROUTE], {"genre": genre})
    low = {feature.name: feature.minimum for feature in genre.card.features}
    high = {feature.name: feature.maximum for feature in genre.card.features}
    ((answer,),) = pipeline.process([Message("music/a/features", json.dumps([low, high]).encode())])
    assert [row["label"] in genre.card.labels for row in json.loads(answer.payload)] == [True, True]


def test_it_knows_its_file(genre: Predictor) -> None:
    assert genre.where == str(BUNDLED)
    assert len(genre.sha256) == 64
    assert genre.self_test_difference <= genre.card.self_test.tolerance


def test_what_explains_it_is_made_once(genre: Predictor) -> None:
    assert genre.explainer("path") is genre.explainer("path") is not genre.explainer("shap")
    assert runtime_version()


@pytest.mark.parametrize("content", [b"", b"\x00", b"not a model", b"\x08\x07" * 1000, CONTENT[: len(CONTENT) // 2]])
def test_files_that_are_no_models(content: bytes) -> None:
    assert "onnxruntime can't open this as a model" in refused(content)


def test_a_model_without_a_card() -> None:
    assert "without a model card" in refused(replaced(b"\x0aedge_agent"[1:], b"edge_aGent"), CardError)


def test_a_card_that_is_broken() -> None:
    assert "the model card is not valid" in refused(
        replaced(b'"task":"classification"', b'"task":"classificatiox"'), CardError
    )
    # Not even text.
    refused(replaced(b'"task":"classification"', b'"task":"classificati\xff\xfe"'))


def test_a_card_of_another_graph() -> None:
    name = open_file(BUNDLED).card.feature_names[0].encode()
    assert refused(replaced(b'"name":"' + name + b'"', b'"nome":"' + name + b'"'), CardError)


def test_a_self_test_that_does_not_reproduce() -> None:
    first = json.dumps(open_file(BUNDLED).card.self_test.labels, separators=(",", ":")).encode()
    # The labels of the self-test, the other way round.
    assert CONTENT.count(first) == 1
    turned = json.dumps(list(reversed(open_file(BUNDLED).card.self_test.labels)), separators=(",", ":")).encode()
    message = refused(seal(CONTENT.replace(first, turned)))
    assert "the self-test failed on" in message
    assert "on this device does not reproduce the answers of scikit-learn; " in message
    # A model of another library says so on its card.
    other = refused(seal(CONTENT.replace(first, turned).replace(b'"skl2onnx":', b'"LightGBM":')))
    assert "does not reproduce the answers of LightGBM 1." in other
    assert "install another onnxruntime, or convert the model again" in message


def test_a_self_test_that_fails_on_one_row_is_refused_whichever_it_is() -> None:
    begin = CONTENT.index(b'"probabilities":[[', CONTENT.index(b'"self_test":')) + len(b'"probabilities":[[')
    end = CONTENT.index(b"]]", begin)
    rows = CONTENT[begin:end].split(b"],[")
    assert len(rows) == 48
    for number, row in enumerate(rows):
        # Its last probability, by a little more than the tolerance: the sixth decimal is another one.
        head, _, last = row.rpartition(b",")
        whole, _, decimals = last.partition(b".")
        other = decimals[:4] + (b"5" if decimals[4:5] < b"5" else b"4") + decimals[5:] if len(decimals) > 5 else b"5"
        changed = head + b"," + whole + b"." + other
        assert len(changed) == len(row)
        content = CONTENT[:begin] + b"],[".join([*rows[:number], changed, *rows[number + 1 :]]) + CONTENT[end:]
        assert f"the self-test failed on 1 of 48 rows (first: row {number})" in refused(seal(content))


def test_what_onnxruntime_writes_stays_out_of_ours(tmp_path: Path) -> None:
    """An onnxruntime that is loud, at its import and as it opens a file; native code writes to the descriptors."""
    (tmp_path / "onnxruntime.py").write_text(
        "import os\n"
        "def loud(*_arguments, **_options):\n"
        "    os.write(1, b'banner'), os.write(2, b'banner')\n"
        "    raise RuntimeError('not a model')\n"
        "os.write(1, b'banner'), os.write(2, b'banner')\n"
        "__version__ = '9'\n"
        "class SessionOptions: pass\n"
        "InferenceSession = loud\n"
    )
    code = (
        "from edge_agent.model.onnx import Predictor, runtime_version\n"
        "print('ours', runtime_version())\n"
        "try: Predictor(b'', where='x')\n"
        "except Exception as error: print(error)\n"
    )
    paths = [str(tmp_path), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("ours 9\nx: onnxruntime can't open this as a model: not a model; ")
    assert ("banner" in done.stdout, done.stderr) == (False, "")


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        open_file(tmp_path / "nowhere.onnx")
    with pytest.raises(ModelError, match="Is a directory, not a file"):
        open_file(tmp_path)
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:
        file.truncate(MAX_MODEL_BYTES + 1)
    with pytest.raises(ModelError, match="at most"):
        open_file(huge)


def test_models_are_looked_for_by_path_then_by_name(tmp_path: Path) -> None:
    own = tmp_path / "genre.onnx"
    assert locate("genre", tmp_path) == BUNDLED
    own.write_bytes(CONTENT)
    assert locate("genre", tmp_path) == own
    assert locate(str(own)) == own
    with pytest.raises(ModelError, match=r"no such file \(.*metal.onnx, .*metal.onnx\)"):
        locate("metal", tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        locate(str(tmp_path / "other.onnx"))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"shap":[[0.18', b'"shap":[[0.19'), (b'"values":[[0.02', b'"values":[[0.03')],
    ids=["shap", "trees"],
)
def test_explanations_that_this_device_does_not_reproduce(old: bytes, new: bytes) -> None:
    """Trees on a card answer nothing, so only these tell when they are not those of the graph."""
    message = refused(replaced(old, new))
    assert "the self-test failed on the explanations of" in message
    assert "is not what shap said of the model; convert the model again" in message
