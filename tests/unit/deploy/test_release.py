"""A release file is read whole or refused, with the reason, before anything is published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from edge_deploy.cli import main
from edge_deploy.release import Bundle

from edge_agent.contract.manifest import seconds
from edge_agent.errors import EdgeAgentError, InputError
from tests.unit.deploy.releases import SERIAL, envelope_of, manifest_of, model_of, write_release


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_release(tmp_path)


def test_a_release_from_the_model_file_or_its_own(model: Path) -> None:
    bundle = Bundle.open(model, "stable")
    assert bundle.forward.serial == SERIAL
    assert bundle.forward.title == "genre 1.1.0"
    assert bundle.back is not None
    assert bundle.back.title == "genre 1.0.0"
    assert len(bundle.models) == 2
    assert Bundle.open(model.with_name(model.name + ".release")) == bundle


def test_a_former_model_that_is_not_here_is_named(model: Path) -> None:
    model.with_name("genre-1.0.0.onnx").unlink()
    bundle = Bundle.open(model)
    assert [one.version for one in bundle.absent] == ["1.0.0"]
    assert len(bundle.models) == 1


def _release(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        path = model.with_name(model.name + ".release")
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def _text(text: str) -> Callable[[Path], object]:
    return lambda model: model.with_name(model.name + ".release").write_text(text)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda model: model.with_name(model.name + ".release").unlink(), "make it with edge-convert sign"),
        (_text("{"), "Invalid JSON"),
        (_text("[" * 100_000), "Invalid JSON"),
        (_text(" " * 400_000), "at most 393216 are read"),
        (_release(lambda content: content.update(v=2)), "v: "),
        (_release(lambda content: content.update(extra=1)), "extra: "),
        (_release(lambda content: content["files"].update({"0" * 64: "../secret"})), "not the name of a file"),
        (_release(lambda content: content["manifest"].update(signature="nonsense")), "not a signature"),
        (_release(lambda content: content.update(channel="beta")), "signed for the channel 'stable'"),
        (
            _release(
                lambda content: content.update(back=envelope_of(manifest_of(model_of(b"x", "1.0.0"), serial=SERIAL)))
            ),
            "is not above",
        ),
        (_release(lambda content: content["files"].clear()), "no such file"),
        (lambda model: model.write_bytes(model.read_bytes() + b"x"), "signed for"),
        (lambda model: model.write_bytes(b"x" + model.read_bytes()[1:]), "sha256 differs"),
        (lambda model: model.unlink(), "no such file"),
    ],
)
def test_what_is_refused(model: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(model)
    with pytest.raises(EdgeAgentError, match=words) as caught:
        Bundle.open(model)
    assert len(str(caught.value)) < 1000


def test_what_has_expired_is_not_for_publishing(tmp_path: Path) -> None:
    expired = "2026-10-21T14:13:20Z"
    forward = Bundle.open(write_release(tmp_path, expires=expired)).forward
    forward.require_unexpired(seconds(expired) - 1)
    with pytest.raises(InputError, match=rf"genre 1\.1\.0: expired at {expired}; sign it again"):
        forward.require_unexpired(seconds(expired))


def test_what_never_expires(model: Path) -> None:
    Bundle.open(model).forward.require_unexpired(1e12)


@pytest.mark.parametrize("command", ["push", "rollout"])
def test_commands_say_so_before_they_look_for_a_broker(tmp_path: Path, command: str) -> None:
    model = write_release(tmp_path, expires="2026-09-21T14:13:21Z")
    done = CliRunner().invoke(main, [command, str(model)])
    assert done.exit_code == 2, done.output
    assert "expired at 2026-09-21T14:13:21Z; sign it again" in done.output


def test_a_way_back_that_has_expired(model: Path) -> None:
    former = manifest_of(model_of(b"1.0.0", "1.0.0"), serial=SERIAL + 1, expires="2026-09-21T14:13:21Z")
    _release(lambda content: content.update(back=envelope_of(former)))(model)
    done = CliRunner().invoke(main, ["take-back", str(model)])
    assert done.exit_code == 2, done.output
    assert "genre 1.0.0: expired at 2026-09-21T14:13:21Z; sign it again" in done.output


def test_the_channel_is_part_of_what_is_signed(model: Path) -> None:
    with pytest.raises(EdgeAgentError, match="sign it again with edge-convert sign --channel"):
        Bundle.open(model, "beta")
