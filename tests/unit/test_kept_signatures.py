"""What lies beside a model that came over MQTT, or by `edge-agent model install`: who signed it, for every later start."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.cli.main import cli
from edge_agent.config.load import load
from edge_agent.config.models import kept, library, store
from edge_agent.contract.manifest import pieces
from edge_agent.doctor.models import check_models
from edge_agent.doctor.trust import check_trust
from edge_agent.errors import TrustError
from edge_agent.host.process import Signals
from edge_agent.model.library import locate
from edge_agent.serving.workshop import Steps, Workshop
from tests.patience import DEADLINE
from tests.trusted import (
    ANN,
    BEN,
    CHANNEL,
    EVE,
    ISSUED,
    envelope,
    genre,
    instant,
    key_envelope,
    key_list,
    manifest,
    signed,
    signers,
)
from tests.unit.test_files import place, without_rights
from tests.versions import version

__all__ = ["place"]

CONTENT = locate("genre").read_bytes()
_T = TypeVar("_T")


def done(steps: Steps[_T]) -> _T:
    """Wait for each process of some work, and return what came of it."""
    with Signals(children=True) as signals:
        while not steps.ended:
            signals.wait(DEADLINE)
    return steps.result()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "edge-agent.toml"
    file.write_text(
        '[models]\ndirectory = "models"\nrequire_signature = true\n'
        f'[update]\nchannel = "{CHANNEL}"\ntrusted_keys = ["{ANN.public_key.text}"]\n'
    )
    return file


def workshop(config: Path) -> Workshop:
    settings = load(config)
    return Workshop(lambda patience: store(settings, patience), CHANNEL, signers(ANN), clock=lambda: float(ISSUED + 60))


def arrived(config: Path) -> Workshop:
    """After the bundled model came over MQTT, and is in use."""
    said = genre()
    offer = done(workshop(config).accept(envelope(manifest())))
    assert offer.manifest.models == (said,)
    working = workshop(config)  # a reload has made another one meanwhile
    with working.part(said) as part:
        for number, piece in enumerate(pieces(CONTENT)):
            assert part.write(number, piece)
    served = done(working.test([said], offer.evidence, offer.manifest))
    assert list(served) == ["genre"]
    done(working.use([said]))
    return working


def test_a_model_over_mqtt_is_served_after_a_restart(config: Path) -> None:
    arrived(config)
    opened = library(load(config)).open("genre")
    assert opened.path.parent.name == "genre"
    assert opened.signed_by == (ANN.public_key.name,)


def test_after_a_rotation_the_current_release_is_signed_again(config: Path) -> None:
    working = arrived(config)
    done(working.trust(key_envelope(key_list(BEN), ANN)))
    with pytest.raises(TrustError, match="is not trusted here"):
        library(load(config)).open("genre")
    done(working.accept(envelope(manifest(serial=ISSUED + 1), BEN)))
    assert library(load(config)).open("genre").signed_by == (BEN.public_key.name,)
    # Another key in the configuration, and the list is forgotten.
    config.write_text(config.read_text().replace(ANN.public_key.text, EVE.public_key.text))
    with pytest.raises(TrustError, match="is not trusted here"):
        library(load(config)).open("genre")


def test_the_same_manifest_with_more_signatures_is_enough(config: Path) -> None:
    working = arrived(config)
    done(working.accept(envelope(manifest(), ANN, BEN)))
    done(working.trust(key_envelope(key_list(BEN), ANN)))
    assert library(load(config)).open("genre").signed_by == (BEN.public_key.name,)


def test_check_shows_how_old_the_accepted_state_is(config: Path) -> None:
    working = arrived(config)
    (found,) = check_trust(load(config))
    assert found.message.endswith(f"; accepted: serial {ISSUED}, issued {instant(ISSUED)}")
    done(working.trust(key_envelope(key_list(BEN, EVE, threshold=2, serial=7), ANN)))
    (found,) = check_trust(load(config))
    assert (
        f"2 of the keys {BEN.public_key.name}, {EVE.public_key.name}, as a list of keys with serial 7" in found.message
    )
    assert kept(load(config)).accepted.serial == ISSUED


def test_check_names_a_state_that_can_not_be_read(config: Path) -> None:
    arrived(config)
    (config.parent / "models" / "state.json").write_text("{")
    (found,) = check_trust(load(config))
    assert (found.what, found.verdict) == ("trust", "fail")
    assert "state.json" in found.message


def test_check_says_how_the_service_gets_to_read_a_key(config: Path) -> None:
    """As the service: root reads it in any case."""
    key = config.parent / "models.pub"
    key.write_text(ANN.public_key.text)
    config.write_text(config.read_text().replace(ANN.public_key.text, str(key)))
    (open_to_all,) = check_trust(load(config), as_service=True)
    assert open_to_all.verdict == "ok"
    (closed,) = check_trust(load(config), as_service=True, may=lambda path, _: path != key)
    assert (closed.verdict, closed.message) == (
        "fail",
        f"update.trusted_keys: {key}: the service's user may not read it",
    )
    assert closed.mend == f"it is no secret: sudo chmod a+r {key}"


def test_what_only_the_service_may_see_is_no_failure_of_another_user(config: Path, place: Path) -> None:
    config.write_text(config.read_text().replace('"models"', f'"{place}/closed/models"'))
    (place / "closed/models").mkdir(parents=True)
    (place / "closed").chmod(0o700)
    loaded = load(config)
    with without_rights():
        (trust,) = check_models(loaded, loaded.routes(), {})
        (service,) = check_models(loaded, loaded.routes(), {}, as_service=True)
    assert (trust.verdict, trust.mend) == ("note", "to see whom the service trusts: sudo edge-agent check")
    assert service.verdict == "fail"


def test_an_installed_file_keeps_its_signature(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.onnx"
    mine = version("1.1.0")
    file.write_bytes(mine)
    refused = CliRunner().invoke(cli, ["model", "install", str(file), "--config", str(config)])
    assert isinstance(refused.exception, TrustError)
    assert "there is no mine.onnx.minisig beside it" in str(refused.exception)
    (tmp_path / "mine.onnx.minisig").write_text(signed(mine, ANN))
    installed = CliRunner().invoke(cli, ["model", "install", str(file), "--config", str(config)])
    assert installed.exit_code == 0, installed.output
    assert library(load(config)).open("genre").signed_by == (ANN.public_key.name,)
    shown = CliRunner().invoke(cli, ["model", "show", "genre", "--config", str(config), "--json"])
    assert '"signature": "trusted"' in shown.output
    # The bundled one was served before, and needs no signature in the store either.
    back = CliRunner().invoke(cli, ["model", "rollback", "--config", str(config)])
    assert back.exit_code == 0, back.output
    assert library(load(config)).open("genre").signed_by == ()


def test_a_model_over_mqtt_says_who_signed_it(config: Path) -> None:
    arrived(config)
    shown = CliRunner().invoke(cli, ["model", "show", "genre", "--config", str(config), "--json"])
    assert shown.exit_code == 0, shown.output
    assert '"signature": "trusted"' in shown.output
    assert ANN.public_key.name in shown.output
