"""Model files on the disk where signatures are required: nothing is done with one before its signature is verified."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.config.load import load as load_settings
from edge_agent.config.models import library
from edge_agent.contract.seal import LENGTH
from edge_agent.doctor.models import check_models
from edge_agent.errors import ModelError, SettingsError, TrustError
from edge_agent.model.library import Library, Loaded, locate
from edge_agent.model.trust import Signers, verify_file
from tests.trusted import ANN, BEN, EVE, envelope, genre, manifest, signed, signers

BUNDLED = locate("genre")
CONTENT = BUNDLED.read_bytes()


def put(directory: Path, content: bytes = CONTENT, evidence: str | bytes | None = None, name: str = "mine") -> Path:
    """A model file, with what lies beside it (None: Ann's signature)."""
    path = directory / f"{name}.onnx"
    path.write_bytes(content)
    told = signed(content, ANN) if evidence is None else evidence
    path.with_name(f"{name}.onnx.minisig").write_bytes(told.encode() if isinstance(told, str) else told)
    return path


def opened(directory: Path, trusted: Signers | None = None) -> Loaded:
    return Library((directory,), trusted or signers(ANN)).open("mine")


def refusal(directory: Path, trusted: Signers | None = None) -> str:
    with pytest.raises(TrustError) as raised:
        opened(directory, trusted)
    said = str(raised.value)
    assert said.startswith(str(directory / "mine.onnx"))
    assert said.count(str(directory)) <= 2
    return said


def test_a_signed_model_is_served_and_it_is_known_who_signed(tmp_path: Path) -> None:
    put(tmp_path)
    assert opened(tmp_path).signed_by == (ANN.public_key.name,)
    assert opened(tmp_path).predictor.card.name == "genre"


def test_the_bundled_model_needs_no_signature_wherever_it_was_copied_to(tmp_path: Path) -> None:
    """The store copies it, so that there is a way back to it."""
    assert Library((), signers(ANN)).open("genre").signed_by == ()
    put(tmp_path).with_name("mine.onnx.minisig").unlink()
    assert opened(tmp_path).signed_by == ()


def test_no_signature_is_asked_for_by_default(tmp_path: Path) -> None:
    put(tmp_path, evidence="nonsense")
    assert Library((tmp_path,)).open("mine").signed_by == ()


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (signed(CONTENT, EVE), "is not trusted here"),
        (signed(b"another file", ANN), "does not match the content"),
        ("", "not a signature"),
        (b"\xff\xfe", "not a signature"),
        ("x" * 200_000, "is too large"),
        (envelope(manifest(), EVE), "is not trusted here"),
        (envelope(manifest(genre().model_copy(update={"sha256": "ab" * 32}))), "does not name this file"),
        (b"{}", "the manifest beside it: "),
    ],
)
def test_whatever_else_lies_beside_it_is_refused(tmp_path: Path, evidence: str | bytes, said: str) -> None:
    put(tmp_path, evidence=evidence)
    assert said in refusal(tmp_path)


def test_without_a_file_beside_it_the_reason_says_what_to_do(tmp_path: Path) -> None:
    put(tmp_path, CONTENT[:-LENGTH]).with_name("mine.onnx.minisig").unlink()
    assert "there is no mine.onnx.minisig beside it; sign it with edge-convert sign" in refusal(tmp_path)


def test_a_manifest_that_names_the_file_is_a_signature_too(tmp_path: Path) -> None:
    """What came over MQTT keeps the message that it came with."""
    put(tmp_path, evidence=envelope(manifest(), ANN, BEN))
    assert len(opened(tmp_path, signers(ANN, BEN, threshold=2)).signed_by) == 2


def test_a_threshold_counts_for_files_too(tmp_path: Path) -> None:
    put(tmp_path)
    assert "2 are needed" in refusal(tmp_path, signers(ANN, BEN, threshold=2))


@pytest.mark.parametrize(
    "content", [b"", b"not ONNX", CONTENT[:-LENGTH], CONTENT[: len(CONTENT) // 2], CONTENT + b"\0"]
)
def test_onnxruntime_sees_nothing_of_what_is_not_signed(tmp_path: Path, content: bytes) -> None:
    """Each of these would be refused by the library that opens it, in other words."""
    put(tmp_path, content, signed(CONTENT, ANN))
    assert "does not match the content" in refusal(tmp_path)


def test_swapped_signatures(tmp_path: Path) -> None:
    other = CONTENT[:-LENGTH]
    for name, content, signature in (("mine", CONTENT, signed(other, ANN)), ("other", other, signed(CONTENT, ANN))):
        put(tmp_path, content, signature, name)
        with pytest.raises(TrustError, match="does not match the content"):
            Library((tmp_path,), signers(ANN)).open(name)


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.long)])
def test_one_flipped_bit_in_every_byte_of_a_model(step: int) -> None:
    """All of them take some seconds."""
    evidence, trusted = signed(CONTENT, ANN).encode(), signers(ANN)
    assert verify_file(CONTENT, evidence, trusted)
    taken = []
    for place in range(0, len(CONTENT), step):
        wrong = bytearray(CONTENT)
        wrong[place] ^= 1 << place % 8
        try:
            verify_file(bytes(wrong), evidence, trusted)
        except TrustError:
            continue
        taken.append(place)
    assert taken == []


def test_a_reload_looks_again_when_other_keys_or_another_signature_are_there(tmp_path: Path) -> None:
    put(tmp_path)
    before = opened(tmp_path)

    def again(trusted: Signers | None) -> Loaded:
        return Library((tmp_path,), trusted).loading(["mine"], [before]).models()["mine"]

    assert again(signers(ANN)) is before
    assert again(signers(ANN, BEN)) is not before
    with pytest.raises(TrustError, match="is not trusted here"):
        again(signers(BEN))
    put(tmp_path, evidence=signed(CONTENT, EVE))
    with pytest.raises(TrustError, match="is not trusted here"):
        again(signers(ANN))


def test_the_settings_decide(tmp_path: Path) -> None:
    put(tmp_path)
    file = tmp_path / "edge-agent.toml"
    text = '[models]\ndirectory = "."\nrequire_signature = true\n[[route]]\nmodel = "mine"\n'
    file.write_text(f'{text}[update]\ntrusted_keys = ["{ANN.public_key.text}"]\n')
    assert library(load_settings(file)).open("mine").signed_by == (ANN.public_key.name,)
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"needs update\.trusted_keys"):
        library(load_settings(file))


def findings(file: Path) -> list[tuple[str, str, str]]:
    settings = load_settings(file)
    return [(one.what, one.verdict, one.message) for one in check_models(settings, settings.routes(), {})]


def test_check_says_what_holds(tmp_path: Path) -> None:
    put(tmp_path)
    file, key = tmp_path / "edge-agent.toml", ANN.public_key
    file.write_text('[models]\ndirectory = "."\n[[route]]\nmodel = "mine"\n')
    assert findings(file)[0] == ("trust", "ok", "models on the disk: no signature needed; none over MQTT")
    own = '[models]\ndirectory = "."\nrequire_signature = true\n[[route]]\nmodel = "mine"\n[update]\n'
    file.write_text(f'{own}trusted_keys = ["{key.text}"]\nchannel = "stable"\n')
    found = findings(file)
    assert found[0] == (
        "trust",
        "ok",
        f"models on the disk: signed by key {key.name}; over MQTT from channel stable: signed by key {key.name}",
    )
    assert ("signature", "ok", f"genre: signed by key {key.name}") in found
    file.write_text(f'{own}trusted_keys = ["{key.text}", "{BEN.public_key.text}"]\nthreshold = 2\n')
    found = findings(file)
    assert f"signed by 2 of the keys {key.name}, {BEN.public_key.name}; none over MQTT" in found[0][2]
    assert found[1][:2] == ("model", "fail")
    file.write_text(own)
    assert findings(file) == [("trust", "fail", "models.require_signature: needs update.trusted_keys")]
    file.write_text('[update]\nchannel = "lab"\nrequire_signature = false\n')
    assert findings(file)[0][:2] == ("trust", "note")
    assert "whoever may publish to edge/fleet/lab/manifest decides" in findings(file)[0][2]


def test_the_serving_process_opens_signed_models_without_cryptography(tmp_path: Path) -> None:
    put(tmp_path)
    file = tmp_path / "edge-agent.toml"
    file.write_text(
        '[models]\ndirectory = "."\nrequire_signature = true\n[[route]]\nmodel = "mine"\n'
        f'[update]\ntrusted_keys = ["{ANN.public_key.text}"]\n'
    )
    program = f"""
import sys
from pathlib import Path
from edge_agent.config.load import load
from edge_agent.config.models import loading
print(loading(load(Path({str(file)!r}))).models()["mine"].signed_by)
print([name for name in sys.modules if name.startswith(("cryptography", "_cffi"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str((ANN.public_key.name,)), "[]"], done.stderr


def test_a_file_that_is_replaced_after_its_signature_was_verified_is_noticed(tmp_path: Path) -> None:
    path = put(tmp_path)
    loading = Library((tmp_path,), signers(ANN)).loading(["mine"])
    loading._trial.wait()
    other = tmp_path / "other.onnx"
    other.write_bytes(CONTENT[:-LENGTH])
    other.replace(path)
    with pytest.raises(ModelError, match="changed while it was being opened"):
        loading.models()
