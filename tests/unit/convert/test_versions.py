"""Files that another scikit-learn wrote: its version is found, and the way out is said."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from edge_convert.versions import cause, written_by
from sklearn.tree import DecisionTreeClassifier

from tests.unit.convert.conftest import Run, make_table, write_csv

TABLE = make_table()


class _Older(DecisionTreeClassifier):  # type: ignore[misc]
    """A tree whose state is as 1.3 wrote it: without what came later, and with its version."""

    def __reduce__(self) -> Any:
        state = {name: value for name, value in vars(self).items() if name != "monotonic_cst"}
        return object.__new__, (DecisionTreeClassifier,), state | {"_sklearn_version": "1.3.2"}


def _older(kind: type[Any] = _Older) -> Any:
    return kind(random_state=0).fit(TABLE.X, TABLE.labels)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_the_version_is_found_in_a_pickle(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "m.pkl"
    file.write_bytes(pickle.dumps(_older(), protocol=protocol))
    assert written_by(file) == "1.3.2"
    file.write_bytes(pickle.dumps(_older(DecisionTreeClassifier), protocol=protocol))
    assert written_by(file) == sklearn.__version__


@pytest.mark.parametrize("method", ["zlib", "gzip", "bz2", "xz", "lzma"])
def test_the_version_is_found_in_what_joblib_compressed(tmp_path: Path, method: str) -> None:
    file = tmp_path / "m.joblib"
    joblib.dump(_older(), file, compress=(method, 3))
    assert written_by(file) == "1.3.2"


def test_the_version_is_found_in_a_skops_file(tmp_path: Path) -> None:
    file = tmp_path / "m.skops"
    skops.io.dump(_older(DecisionTreeClassifier), file)
    assert written_by(file) == sklearn.__version__


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", pickle.dumps({"a": np.zeros(3)}), b"\x1f\x8b cut"])
def test_a_file_that_does_not_tell(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.pkl"
    file.write_bytes(content)
    assert written_by(file) == ""
    assert cause(file, ValueError("one:\n  two")) == "one: two"


def test_what_this_version_can_not_use_is_refused_with_the_way_out(run: Run, tmp_path: Path) -> None:
    file, table = tmp_path / "m.joblib", write_csv(tmp_path / "t.csv", TABLE)
    joblib.dump(_older(), file)
    done = run("export", file, "--data", table, "--target", "mood", "--trust-pickle", "--out", tmp_path / "m.onnx")
    assert (done.exit_code, "scikit-learn 1.3.2 wrote it" in done.stderr) == (2, True), (done.output, done.exception)
    assert "fit it again with a newer one" in done.stderr
    assert "monotonic_cst" in done.stderr


def test_a_version_that_edge_convert_runs_with_is_recommended(tmp_path: Path) -> None:
    file = tmp_path / "m.pkl"
    held = io.BytesIO()
    pickle.dump({"_sklearn_version": "1.6.1"}, held)
    file.write_bytes(held.getvalue())
    assert "run edge-convert with scikit-learn==1.6.1" in cause(file, AttributeError("x"))
