"""Where a model is looked for, and whatever else may lie there: one sentence, and a bundled model all the same."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.errors import ModelError
from edge_agent.model.library import locate, open_file
from tests.patience import DEADLINE
from tests.unit.test_files import place, without_rights

__all__ = ["place"]

BUNDLED = locate("genre")
FILE = "genre.onnx"

Make = Callable[[Path], object]


@pytest.fixture
def models(place: Path) -> Path:
    """A directory of models that everybody may look into."""
    directory = place / "models"
    directory.mkdir(mode=0o755)
    return directory


def _circle(directory: Path) -> None:
    (directory / FILE).symlink_to(directory / "other.onnx")
    (directory / "other.onnx").symlink_to(directory / FILE)


IN_ITS_PLACE: list[tuple[Make, str]] = [
    (lambda models: (models / FILE).mkdir(), "Is a directory, not a file"),
    (lambda models: os.mkfifo(models / FILE), "is a pipe, not a file"),
    (lambda models: (models / FILE).symlink_to("gone"), "it is a link to gone; fix the link"),
    (_circle, "a circular link"),
    (lambda models: (models / FILE).symlink_to("/dev/null"), "is a device, not a file"),
]


@pytest.mark.parametrize(("make", "says"), IN_ITS_PLACE)
@pytest.mark.timeout(DEADLINE)
def test_what_lies_in_its_place_is_said_and_not_passed_over(make: Make, says: str, models: Path) -> None:
    make(models)
    for model, named in (("genre", "model 'genre': "), (str(models / FILE), "")):
        with without_rights(), pytest.raises(ModelError) as raised:
            locate(model, models)
        message = str(raised.value)
        assert message.startswith(f"{named}{models / FILE}: ")
        assert says in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("x" * 300, "File name too long"),
        ("a\0b", "contains a character that paths can't have"),
        ("a\ud800", "contains a character that paths can't have"),
    ],
)
def test_names_that_no_file_can_have(model: str, says: str, models: Path) -> None:
    for name in (model, f"{model}.onnx"):
        with pytest.raises(ModelError, match=says) as raised:
            locate(name, models)
        assert len(str(raised.value)) < 700


@pytest.fixture
def reachable() -> None:
    """The bundled model can be had without rights, which a clone in a directory of root's own (`mktemp -d`) does not allow."""
    with without_rights():
        there = os.access(BUNDLED, os.R_OK, effective_ids=True)
    if not there:
        pytest.skip(f"a user without rights may not enter {BUNDLED.parent}")


@pytest.mark.usefixtures("reachable")
def test_a_closed_directory_does_not_hide_a_bundled_model(
    models: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As systemd makes it for DynamicUser=: /var/lib/edge-agent -> private/edge-agent, and `private` is root's.
    (models / FILE).write_bytes(b"not looked at")
    (place / "link").symlink_to(models)
    models.chmod(0)
    caplog.set_level(logging.WARNING)
    for directory in (models, place / "link"):
        caplog.clear()
        with without_rights():
            assert locate("genre", directory) == BUNDLED
        (line,) = caplog.messages
        assert line.startswith(f"model genre: using the bundled one; {directory / FILE}: Permission denied: user ")
        assert f"may not enter {models}; allow it with chmod or chown, or, in a terminal, use sudo" in line
    models.chmod(0o700)


@pytest.mark.usefixtures("reachable")
def test_a_model_in_a_closed_directory_can_t_be_found(models: Path) -> None:
    (models / "mine.onnx").write_bytes(BUNDLED.read_bytes())
    models.chmod(0)
    for model in ("mine", str(models / "mine.onnx")):
        with without_rights(), pytest.raises(ModelError) as raised:
            locate(model, models)
        assert f"may not enter {models}; allow it with chmod or chown, or, in a terminal, use sudo" in str(raised.value)
    models.chmod(0o700)


def test_a_model_that_may_not_be_read(models: Path) -> None:
    path = models / FILE
    path.write_bytes(BUNDLED.read_bytes())
    path.chmod(0)
    with without_rights(), pytest.raises(ModelError) as raised:
        open_file(locate("genre", models))
    assert str(raised.value).startswith(f"{path}: Permission denied: user ")
    assert str(raised.value).endswith("allow it with chmod or chown, or, in a terminal, use sudo")
    assert "\n" not in str(raised.value)


def test_there_need_be_no_directory(place: Path) -> None:
    assert locate("genre", place / "nowhere") == BUNDLED
    (place / "file").touch()
    with pytest.raises(ModelError, match="Not a directory"):
        locate("genre", place / "file")
