from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from edge_convert.atomic import write_atomically

from edge_agent.errors import InputError


def test_replaces_what_was_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "model.onnx", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.onnx").stat().st_mode) == 0o644


def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()  # a file can't replace a directory
    with pytest.raises(InputError, match=r"model\.onnx: can't be written"):
        write_atomically(tmp_path / "model.onnx", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
    with pytest.raises(InputError, match="No such file or directory"):
        write_atomically(tmp_path / "nowhere" / "model.onnx", b"x")
