"""`edge-convert keygen`, `sign` and `keys`: what is written is what devices take."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from edge_convert.signing import LEAST, SecretKey, write_key

from edge_agent.contract.manifest import Envelope, KeyEnvelope, KeyList, Manifest, Release, read, seconds
from edge_agent.contract.minisign import PublicKey, signatures
from edge_agent.model.library import locate
from edge_agent.model.trust import Trust, accept, accept_keys, verify
from tests.trusted import ANN, BEN, trusting
from tests.unit.convert.conftest import Run

DAY = 86_400


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The bundled model in a directory of its own, with Ann's and Ben's keys."""
    write_key(ANN, tmp_path / "ann.key", None)
    write_key(BEN, tmp_path / "ben.key", "pw", LEAST)
    (tmp_path / "password").write_text("pw\n")
    return Path(shutil.copy(locate("genre"), tmp_path / "genre-1.1.0.onnx"))


def release_of(path: Path) -> Release:
    return read(Release, path.with_name(f"{path.name}.release").read_bytes(), "the release", 1 << 20)


def taken(envelope: Envelope | None, node: Trust) -> Manifest:
    assert envelope is not None
    return accept(envelope.payload(), node, time.time()).manifest


def test_keygen_writes_a_pair_and_says_where_it_goes(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "home.key"
    done = run("keygen", "--out", out, "--no-password")
    assert done.exit_code == 0, done.output
    public = PublicKey.parse((tmp_path / "home.pub").read_text())
    assert f'trusted_keys = ["{public.text}"]' in done.output
    assert SecretKey.parse(out.read_text(), "it", str).public_key == public
    again = run("keygen", "--out", out, "--no-password")
    assert again.exit_code == 2
    assert "never overwritten" in again.output


def test_an_empty_password_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    done = run("keygen", "--out", tmp_path / "a.key", "--password-file", tmp_path / "password")
    assert done.exit_code == 2
    assert "an empty password protects nothing" in done.output
    assert not (tmp_path / "a.key").exists()


def test_a_password_that_would_not_be_used_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pw\n")
    done = run("keygen", "--out", tmp_path / "a.key", "--no-password", "--password-file", tmp_path / "password")
    assert done.exit_code == 2
    assert "give one of them" in done.output
    assert not (tmp_path / "a.key").exists()


def test_a_file_is_signed(run: Run, model: Path) -> None:
    done = run("sign", model, "--key", model.with_name("ann.key"))
    assert done.exit_code == 0, done.output
    beside = model.with_name("genre-1.1.0.onnx.minisig")
    assert f"{beside}: signed by {ANN.public_key.name}" in done.output
    found = verify(model.read_bytes(), beside.read_text(), [ANN.public_key])
    assert re.fullmatch("timestamp:[0-9]+\tfile:genre-1.1.0.onnx\thashed", found.comment)


def test_signatures_of_several_people_add_up(run: Run, model: Path) -> None:
    ann, ben = model.with_name("ann.key"), model.with_name("ben.key")
    beside = model.with_name("genre-1.1.0.onnx.minisig")
    assert run("sign", model, "--key", ann).exit_code == 0
    for _ in range(2):  # the second time replaces his own
        done = run("sign", model, "--key", ben, "--password-file", model.with_name("password"), "--add")
        assert done.exit_code == 0, done.output
    assert len(signatures(beside.read_text())) == 2
    assert verify(model.read_bytes(), beside.read_text(), [ANN.public_key, BEN.public_key], threshold=2)
    assert run("sign", model, "--key", ann).exit_code == 0
    assert len(signatures(beside.read_text())) == 1


def test_a_release_for_a_channel_and_the_way_back(run: Run, model: Path) -> None:
    before = Path(shutil.copy(model, model.with_name("genre-1.0.0.onnx")))
    done = run(
        *("sign", model, "--key", model.with_name("ann.key"), "--channel", "stable", "--back", before, "--soak", "10m"),
        *(
            "--canary",
            "0.1",
            "--max-slower",
            "5",
            "--min-agreement",
            "0.98",
            "--for",
            "pi-*",
            "--for",
            "10%",
            "--expires",
            "30d",
        ),
        *("--title", "Genre 1.1", "--summary", "more Rock"),
    )
    assert done.exit_code == 0, done.output
    assert "genre 1.0.0 for pi-*, 10% in channel stable, serial " in done.output
    release = release_of(model)
    said = taken(release.manifest, trusting())
    # Seconds since 1970, so nobody has to remember the last one.
    assert said.issued is not None
    assert said.serial == seconds(said.issued)
    assert (said.meant, said.canary, said.soak_seconds) == (("pi-*", "10%"), 0.1, 600)
    assert said.expires is not None
    assert seconds(said.expires) == said.serial + 30 * DAY
    assert (said.min_agreement, said.max_slower, said.new_contract) == (0.98, 5.0, False)
    assert said.models[0].title == "Genre 1.1"
    back = taken(release.back, trusting())
    assert (back.serial, back.meant, back.canary, back.soak_seconds) == (said.serial + 1, ("pi-*", "10%"), 0.0, 0)
    # Whoever has to go back next year has no key.
    assert back.expires is None
    assert back.new_contract  # whatever the newer one changed, the former one is let in again
    assert release.files[said.models[0].sha256] in {model.name, before.name}


def test_a_release_gets_another_signature(run: Run, model: Path) -> None:
    given = ("--channel", "stable", "--back", model, "--serial", "7")
    first = run("sign", model, "--key", model.with_name("ann.key"), *given)
    assert first.exit_code == 0, first.output
    path = model.with_name("genre-1.1.0.onnx.release")
    done = run("sign", path, "--key", model.with_name("ben.key"), "--password-file", model.with_name("password"))
    assert done.exit_code == 0, done.output
    assert f"signed by {ANN.public_key.name}, {BEN.public_key.name}" in done.output
    both = trusting(ANN, BEN, threshold=2)
    assert taken(release_of(model).manifest, both).serial == 7
    assert taken(release_of(model).back, both).serial == 8


def test_each_key_has_its_own_password(run: Run, model: Path) -> None:
    eve = SecretKey.generate()
    write_key(eve, model.with_name("eve.key"), "other", LEAST)
    first, second = model.with_name("password"), model.with_name("other")
    second.write_text("other\n")
    sign = [
        "sign",
        model,
        *(word for name in ("ben", "ann", "eve") for word in ("--key", model.with_name(f"{name}.key"))),
    ]

    def said(*files: Path) -> str:
        return run(*sign, *(word for file in files for word in ("--password-file", file))).output

    names = ", ".join(key.public_key.name for key in (BEN, ANN, eve))
    assert f"signed by {names}" in said(first, second)
    assert "eve.key: wrong password" in said(first)
    assert "ben.key: wrong password" in said(second, first)
    assert "no key needs" in said(first, second, first)
    done = run(*sign, "--key", model.with_name("dan.key"), *("--password-file", first) * 2)
    assert "wrong password" in done.output
    write_key(SecretKey.generate(), model.with_name("dan.key"), "pw", LEAST)
    done = run(*sign, "--key", model.with_name("dan.key"), "--password-file", first, "--password-file", second)
    assert "none is left for" in done.output
    assert "dan.key" in done.output


def test_keys_are_replaced(run: Run, model: Path) -> None:
    out = model.with_name("stable.keys")
    done = run(
        *("keys", "--channel", "stable", "--trust", model.with_name("ben.pub"), "--key", model.with_name("ann.key")),
        *("--out", out),
    )
    assert done.exit_code == 0, done.output
    assert f"1 of {BEN.public_key.name} signs for channel stable" in done.output
    assert f"mosquitto_pub -q 1 -r -t edge/fleet/stable/keys -f {out}" in done.output
    assert accept_keys(out.read_bytes(), trusting()).public_keys == (BEN.public_key,)
    done = run("sign", out, "--key", model.with_name("ben.key"), "--password-file", model.with_name("password"))
    assert done.exit_code == 0, done.output
    message = read(KeyEnvelope, out.read_bytes(), "it")
    assert [one.key_id for one in signatures(message.signature)] == [ANN.id, BEN.id]
    assert accept_keys(out.read_bytes(), trusting(ANN, BEN, threshold=2)) == read(KeyList, message.keys, "it")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sign", "{model}", "--key", "{gone}.key"], "gone.key: can't be read"),
        (["sign", "{gone}", "--key", "{ann}.key"], "gone: can't be read"),
        (["sign", "{model}", "--key", "{ann}.pub"], "ann.pub: not a secret key"),
        (["sign", "{model}", "--key", "{ann}.key", "--key", "{ann}.key"], "the same key is there twice"),
        (["sign", "{model}", "--key", "{ann}.key", "--soak", "10m"], "--soak: only with --channel"),
        (["sign", "{model}", "--key", "{ann}.key", "--channel", "a/b"], "channel: one word of letters"),
        (["sign", "{model}", "--key", "{ann}.key", "--channel", "a", "--soak", "soon"], "not a time such as"),
        (["sign", "{model}", "--key", "{ann}.key", "--channel", "a", "--expires", "999999999d"], "than 100 years"),
        (["sign", "{model}", "--key", "{ann}.key", "--channel", "a", "--canary", "0.1"], "need soak_seconds"),
        (["sign", "{model}", "--key", "{ann}.key", "--channel", "a", "--for", "a/b"], "a node's id, a pattern"),
        (["sign", "{model}", "--key", "{ann}.key", "--channel", "a", "--with", "{model}"], "'genre' is there twice"),
        (["sign", "{ann}.pub", "--key", "{ann}.key", "--channel", "a"], "is not an ONNX file"),
        (["sign", "{model}", "--key", "{ann}.key", "--comment", "a\nb"], "one line"),
        (["sign", "{ann}.keys", "--key", "{ann}.key", "--add"], "gets a signature inside"),
        (["keys", "--channel", "a", "--trust", "{ann}.key", "--key", "{ann}.key"], "not a public key"),
        (
            ["keys", "--channel", "a", "--trust", "{ann}.pub", "--key", "{ann}.key", "--threshold", "2"],
            "for 1 key, which nobody could",
        ),
        (["keys", "--channel", "a", "--trust", "{ann}.pub", "--key", "{ann}.key", "--out", "{gone}"], "must end in"),
    ],
)
def test_what_can_not_be_signed_is_said_in_a_line(run: Run, model: Path, arguments: list[str], said: str) -> None:
    places = {"model": str(model), "gone": str(model.with_name("gone")), "ann": str(model.with_name("ann"))}
    done = run(*(one.format(**places) for one in arguments))
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert "Traceback" not in done.output
    assert {path.suffix for path in model.parent.iterdir()} == {".onnx", ".key", ".pub", ""}


def test_a_release_names_the_files_beside_it(run: Run, model: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = Path(shutil.copy(model, elsewhere))
    done = run("sign", model, "--key", model.with_name("ann.key"), "--channel", "stable", "--with", before)
    assert done.exit_code == 2
    assert "is not beside" in done.output


def test_a_damaged_model_is_not_released(run: Run, model: Path) -> None:
    content = model.read_bytes()
    model.write_bytes(content.replace(b"tempo", b"tempi"))
    done = run("sign", model, "--key", model.with_name("ann.key"), "--channel", "stable")
    assert done.exit_code == 3
    assert "damaged" in done.output
    assert not model.with_name(f"{model.name}.release").exists()
