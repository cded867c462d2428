"""`[update]`: keys as lines and as files, and settings that could never accept anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.load import load
from edge_agent.contract.minisign import PublicKey
from edge_agent.errors import SettingsError

ONE, TWO = (PublicKey(bytes([number]) * 8, bytes(range(32))) for number in (1, 2))


def configured(directory: Path, text: str) -> Path:
    file = directory / "edge-agent.toml"
    file.write_text(text)
    return file


def refusal(directory: Path, text: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load(configured(directory, text)).update.keys()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_nothing_is_trusted_and_nothing_taken_by_default(tmp_path: Path) -> None:
    update = load(configured(tmp_path, "")).update
    assert (update.keys(), update.threshold, update.channel, update.require_signature) == ((), 1, "", True)


def test_keys_are_lines_or_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "two.pub").write_text(TWO.file)
    file = configured(
        tmp_path, f'[update]\ntrusted_keys = ["{ONE.text}", "two.pub"]\nthreshold = 2\nchannel = "stable"\n'
    )
    assert load(file).update.keys() == (ONE, TWO)


def test_keys_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_UPDATE__TRUSTED_KEYS", f'["{ONE.text}"]')
    assert load(configured(tmp_path, "")).update.keys() == (ONE,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('channel = "stable"', "a channel, but no trusted_keys"),
        (f'trusted_keys = ["{ONE.text}"]\nthreshold = 2', "a threshold of 2 for 1 trusted_keys"),
        ('trusted_keys = ["RWabc"]', "update.trusted_keys.1: 'RWabc': not a public key"),
        ('channel = "a/b"', "update.channel: one word of letters, digits"),
        ('channel = "stable\\n"', "update.channel"),
        ('trusted_keys = ["gone.pub"]', "gone.pub: No such file"),
        ('trusted_keys = ["."]', "not a public key"),
        (f'trusted_keys = ["{ONE.text}", "{ONE.text}"]', f"key {ONE.name} is there twice"),
    ],
)
def test_what_could_accept_nothing_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, f"[update]\n{text}\n")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"RW", ONE.file.encode() * 2, b"x" * 10_000])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pub").write_bytes(content)
    assert f"update.trusted_keys: {tmp_path / 'bad.pub'}: " in refusal(
        tmp_path, '[update]\ntrusted_keys = ["bad.pub"]\n'
    )


def test_a_channel_without_signatures_needs_no_keys(tmp_path: Path) -> None:
    update = load(configured(tmp_path, '[update]\nchannel = "lab"\nrequire_signature = false\n')).update
    assert (update.channel, update.keys()) == ("lab", ())


def test_no_node_has_the_name_of_all(tmp_path: Path) -> None:
    assert "'fleet' is in the topics of all nodes" in refusal(tmp_path, '[node]\nid = "fleet"\n')


@pytest.mark.parametrize(
    "route", ['subscribe = "edge/fleet/{sensor}/manifest"', 'publish = "edge/fleet/{sensor}/manifest"']
)
def test_no_route_takes_or_makes_what_is_said_to_a_fleet(tmp_path: Path, route: str) -> None:
    assert load(configured(tmp_path, f"[[route]]\n{route}\n")).routes()
    channel = f'[update]\nchannel = "stable"\ntrusted_keys = ["{ONE.text}"]\n'
    assert "route 1" in refusal(tmp_path, f"{channel}[[route]]\n{route}\n")
