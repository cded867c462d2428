"""Whose signature counts, which manifest is taken: each attack of TUF's specification that a broker or its users could try.

The names of the attacks are those of https://theupdateframework.github.io/specification/latest/#goals-to-protect-against-specific-attacks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

pytest.importorskip("edge_convert.signing", reason="signs models; needs the extra `convert`")

from edge_agent.contract.manifest import MAX_MESSAGE_BYTES, MAX_SERIAL, piece_size, written
from edge_agent.contract.minisign import Signature
from edge_agent.errors import CutShortError, EdgeAgentError, TrustError
from edge_agent.model.library import locate, open_file
from edge_agent.model.trust import Accepted, Examination, Kept, Trust, accept, accept_keys, remember, trust, verify
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
    trusting,
)

NOW = float(ISSUED + 60)
DAY = 86_400


def refusal(message: bytes, node: Trust, now: float | None = NOW) -> str:
    with pytest.raises(TrustError) as raised:
        accept(message, node, now)
    said = str(raised.value)
    assert said.startswith("the manifest: ")
    assert said.isprintable()
    return said


def having(*messages: bytes, node: Trust) -> Trust:
    """The same node after it took these manifests."""
    for message in messages:
        node = node._replace(accepted=accept(message, node, NOW).accepted)
    return node


# -- signatures


def test_a_signature_of_a_trusted_key_is_enough() -> None:
    found = verify(b"model", signed(b"model", ANN), [ANN.public_key, BEN.public_key])
    assert found == ((ANN.public_key.name,), "timestamp:1790000000")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (signed(b"model", EVE), "is not trusted here"),
        (signed(b"other", ANN), "does not match the content"),
        (signed(b"model", EVE) + signed(b"other", ANN), "does not match the content"),
        ("", "not a signature"),
    ],
)
def test_any_other_signature_is_refused(text: str, said: str) -> None:
    with pytest.raises(TrustError, match=said):
        verify(b"model", text, [ANN.public_key, BEN.public_key])


def test_nobody_is_trusted_without_keys() -> None:
    with pytest.raises(TrustError, match="no key is trusted"):
        verify(b"model", signed(b"model", ANN), [])


def test_a_trusted_comment_is_signed_too() -> None:
    one, other = (Signature.parse(signed(b"model", ANN, comment=comment)) for comment in ("version 1", "version 2"))
    for mixed in (one._replace(trusted_comment="version 9"), one._replace(global_signature=other.global_signature)):
        with pytest.raises(TrustError, match="the trusted comment does not match"):
            verify(b"model", mixed.text, [ANN.public_key])


def test_a_key_under_the_name_of_another_signs_nothing() -> None:
    posing = EVE._replace(id=ANN.id)
    with pytest.raises(TrustError, match="does not match the content"):
        verify(b"model", signed(b"model", posing), [ANN.public_key])


def test_a_threshold_counts_keys_and_not_signatures() -> None:
    keys = [ANN.public_key, BEN.public_key]
    assert len(verify(b"model", signed(b"model", ANN, EVE, BEN), keys, threshold=2).key_ids) == 2
    with pytest.raises(TrustError, match=r"signed by 1 of the trusted keys .* and 2 are needed"):
        verify(b"model", signed(b"model", ANN, ANN, EVE), keys, threshold=2)


@pytest.mark.parametrize("byte", range(0, 64, 3))
def test_one_flipped_bit_in_a_signature(byte: int) -> None:
    right = Signature.parse(signed(b"model", ANN))
    wrong = bytearray(right.signature)
    wrong[byte] ^= 1 << byte % 8
    with pytest.raises(TrustError):
        verify(b"model", right._replace(signature=bytes(wrong)).text, [ANN.public_key])


# -- manifests


def test_a_manifest_without_a_channel_is_for_the_one_it_came_on() -> None:
    plain = manifest(channel="", issued=None, expires="2026-09-22T00:00:00Z")
    offer = accept(envelope(plain), trusting(), ISSUED)
    assert (offer.manifest.channel, offer.accepted.serial, offer.accepted.issued) == (CHANNEL, ISSUED, "")
    assert offer.is_for("pi-1")
    with pytest.raises(TrustError, match="expired"):
        accept(envelope(plain), trusting(), ISSUED + 10 * 86_400)
    accept(envelope(plain), trusting(), None)


def test_a_manifest_is_taken_and_what_to_remember_of_it() -> None:
    offer = accept(envelope(manifest(), wave=["10%"]), trusting(), NOW)
    assert (offer.manifest, offer.wave) == (manifest(), ("10%",))
    assert offer.accepted[:2] == (ISSUED, (ANN.public_key.name,))
    assert offer.accepted.issued == instant(ISSUED)


def test_one_flipped_bit_in_every_byte_of_a_manifest() -> None:
    """Of the whole message: envelope, signed text, signature. The part that is not signed can't make another text of it."""
    message, taken = envelope(manifest()), written(manifest())
    for place in range(len(message)):
        wrong = bytearray(message)
        wrong[place] ^= 1 << place % 8
        try:
            offer = accept(bytes(wrong), trusting(), NOW)
        except TrustError:
            continue
        # What is left over are bits of minisign's untrusted comment.
        assert written(offer.manifest) == taken


def test_every_truncated_manifest() -> None:
    message = envelope(manifest())
    for length in range(0, len(message), 7):
        refusal(message[:length], trusting())


@pytest.mark.parametrize("text", ["null", "[]", "{}", "not JSON", '{"v": 2}'])
def test_a_signature_does_not_make_a_manifest_of_everything(text: str) -> None:
    refusal(envelope(text), trusting())


def test_without_a_signature_nothing_is_parsed() -> None:
    message = json.dumps({"manifest": "not JSON", "signature": ""}).encode()
    assert refusal(message, trusting()) == "the manifest: not signed; sign it with edge-convert sign"
    assert "not trusted here" in refusal(envelope("not JSON", EVE), trusting())


def test_where_no_signature_is_required_a_manifest_needs_none() -> None:
    message = json.dumps({"manifest": written(manifest()), "signature": ""}).encode()
    assert accept(message, trusting(required=False), NOW).accepted.key_ids == ()
    # And what was taken that way does not stand once signatures are required.
    offered = accept(message, trusting(required=False), NOW)
    assert accept(envelope(manifest(serial=5)), trusting(accepted=offered.accepted), NOW)


# -- the attacks


def test_arbitrary_installation_attack() -> None:
    """Whoever may publish can't make a node install what he likes."""
    assert "not trusted here" in refusal(envelope(manifest(), EVE), trusting())
    other = genre().model_copy(update={"sha256": "ab" * 32})
    swapped = json.dumps({"manifest": written(manifest(other)), "signature": signed(written(manifest()), ANN)})
    assert "does not match the content" in refusal(swapped.encode(), trusting())


def test_endless_data_attack() -> None:
    """What is too long is not parsed, and a file can't be longer than the manifest says, piece by piece."""
    assert f"at most {MAX_MESSAGE_BYTES}" in refusal(b" " * (MAX_MESSAGE_BYTES + 1), trusting())
    sizes = [piece_size(genre().size, number) for number in range(len(genre().blobs))]
    assert sum(sizes) == genre().size


def test_rollback_attack() -> None:
    """An older manifest, once rightly signed, is not taken again."""
    old, new = envelope(manifest(serial=7)), envelope(manifest(serial=8))
    node = having(old, new, node=trusting())
    assert "serial 7 is below 8" in refusal(old, node)
    assert accept(new, node, NOW).accepted == node.accepted  # the broker sends it again on every connection


def test_two_manifests_with_one_serial() -> None:
    node = having(envelope(manifest(serial=7)), node=trusting())
    assert "another one with serial 7" in refusal(envelope(manifest(serial=7, canary=0.5, soak_seconds=60)), node)


def test_fast_forward_attack() -> None:
    """Whoever stole a key blocks the channel with the highest serial; the way out is a list of keys without it."""
    node = having(envelope(manifest(serial=MAX_SERIAL), EVE), node=trusting(ANN, EVE))
    assert "is below" in refusal(envelope(manifest(), ANN), node)
    kept = remember(
        Kept(accepted=node.accepted), signers(ANN, EVE), accept_keys(key_envelope(key_list(ANN), ANN), node)
    )
    rotated = trust(signers(ANN, EVE), "stable", kept)
    assert accept(envelope(manifest(), ANN), rotated, NOW).accepted.serial == ISSUED
    # Eve's manifest is still the retained one on the broker.
    assert "not trusted here" in refusal(envelope(manifest(serial=MAX_SERIAL), EVE), rotated)


def test_a_serial_stands_while_enough_of_its_signers_are_trusted() -> None:
    accepted = Accepted(9, (ANN.public_key.name, BEN.public_key.name))
    assert trusting(ANN, BEN, threshold=2, accepted=accepted).highest == accepted
    assert trusting(ANN, accepted=accepted).highest == accepted
    assert trusting(ANN, EVE, threshold=2, accepted=accepted).highest == Accepted()


def test_mix_and_match_attack() -> None:
    """One manifest has all models of a channel; one of another channel, or a file that is another model, is not taken."""
    assert "for channel 'beta', and this node follows 'stable'" in refusal(
        envelope(manifest(channel="beta")), trusting()
    )
    card, said = open_file(locate("genre")).card, genre()
    assert said.mismatch(card) is None
    for what, other in (("name", "mood"), ("version", "9.0.0"), ("features", ("tempo",)), ("labels", ("Rock",))):
        wrong = said.model_copy(update={what: other}).mismatch(card)
        assert wrong is not None
        assert wrong.startswith(f"the manifest says {what} ")


def test_wrong_node() -> None:
    offer = accept(envelope(manifest(meant=["pi-*"]), wave=["pi-1"]), trusting(), NOW)
    assert offer.is_for("pi-1")
    assert not offer.is_for("pi-2")  # in a later wave
    assert not offer.is_for("kitchen")
    # A wave is not signed: it can't widen whom a manifest is for.
    widened = accept(envelope(manifest(meant=["pi-*"]), wave=["*"]), trusting(), NOW)
    assert widened.is_for("pi-2")
    assert not widened.is_for("kitchen")


def test_indefinite_freeze_attack() -> None:
    """A broker that keeps an old manifest is found out by its age, and `expires` ends it where the clock is right."""
    message = envelope(manifest(expires=instant(ISSUED + DAY)))
    offer = accept(message, trusting(), ISSUED + DAY - 1)
    assert offer.accepted.issued == instant(ISSUED)
    assert "expired at 2026-09-22T" in refusal(message, trusting(), ISSUED + DAY)
    # What was taken in time is not given up later: the node goes on with what it has.
    assert accept(message, trusting(accepted=offer.accepted), ISSUED + 9 * DAY)


@pytest.mark.parametrize("now", [None, 0.0, 1.0, ISSUED - 1.0])
def test_a_clock_in_1970_expires_nothing(now: float | None) -> None:
    assert accept(envelope(manifest(expires=instant(ISSUED + DAY))), trusting(), now)
    # Serials need no clock.
    assert "below" in refusal(envelope(manifest(serial=7)), trusting(accepted=Accepted(8, (ANN.public_key.name,))), now)


def test_key_compromise() -> None:
    """With a threshold of two, one stolen key signs nothing, neither manifests nor lists of keys."""
    node = trusting(ANN, BEN, EVE, threshold=2)
    assert accept(envelope(manifest(), ANN, BEN), node, NOW)
    assert "signed by 1 of the trusted keys" in refusal(envelope(manifest(), EVE), node)
    with pytest.raises(TrustError, match="signed by 1 of the trusted keys"):
        accept_keys(key_envelope(key_list(EVE), EVE), node)
    fewer = key_list(ANN, BEN, threshold=2)
    assert accept_keys(key_envelope(fewer, ANN, BEN), node) == fewer


# -- lists of keys


def test_a_list_of_keys_replaces_those_before() -> None:
    own, node = signers(ANN), trusting(ANN)
    taken = accept_keys(key_envelope(key_list(BEN), ANN), node)
    kept = remember(Kept(accepted=Accepted(8, (ANN.public_key.name,))), own, taken)
    after = trust(own, "stable", Kept.model_validate_json(kept.model_dump_json()))
    assert after.keys == (BEN.public_key,)
    assert after.accepted == kept.accepted
    assert "not trusted here" in refusal(envelope(manifest(), ANN), after)
    assert accept(envelope(manifest(serial=5), BEN), after, NOW)
    # It stays retained on the broker, signed with keys that are not trusted any more.
    with pytest.raises(TrustError, match="not trusted here"):
        accept_keys(key_envelope(key_list(BEN), ANN), after)
    assert accept_keys(key_envelope(key_list(BEN), ANN, BEN), after) == taken


def test_an_older_list_of_keys_is_refused() -> None:
    node = trust(signers(ANN), "stable", remember(Kept(), signers(ANN), key_list(ANN, BEN, serial=7)))
    for serial in (6, 7):
        with pytest.raises(TrustError, match="is not above 7"):
            accept_keys(key_envelope(key_list(ANN, serial=serial), ANN), node)
    newer = key_list(BEN, serial=8)
    assert accept_keys(key_envelope(newer, ANN), node) == newer


def test_other_keys_in_the_settings_are_in_force_again() -> None:
    kept = remember(Kept(), signers(ANN), key_list(EVE))
    assert trust(signers(ANN), "stable", kept).keys == (EVE.public_key,)
    assert trust(signers(BEN), "stable", kept).keys == (BEN.public_key,)
    assert trust(signers(ANN, BEN, threshold=2), "stable", kept).keys_serial == 0


def test_a_list_for_another_channel_and_a_manifest_are_no_list_of_keys() -> None:
    with pytest.raises(TrustError, match="for channel 'beta'"):
        accept_keys(key_envelope(key_list(ANN, channel="beta"), ANN), trusting())
    text = written(manifest())
    with pytest.raises(TrustError, match="the list of keys: "):
        accept_keys(json.dumps({"keys": text, "signature": signed(text, ANN)}).encode(), trusting())
    assert "the manifest: " in refusal(envelope(written(key_list(ANN))), trusting())


# -- apart


def test_a_message_is_examined_apart() -> None:
    asked = Examination("manifest", envelope(manifest(), wave=["10%"]), trusting(), NOW)
    assert asked.offer() == accept(envelope(manifest(), wave=["10%"]), trusting(), NOW)
    assert Examination("keys", key_envelope(key_list(BEN), ANN), trusting()).keys() == key_list(BEN)
    for kind, message in (("manifest", envelope(manifest(), EVE)), ("keys", key_envelope(key_list(EVE), EVE))):
        examined = Examination(kind, message, trusting(), NOW)  # type: ignore[arg-type]
        with pytest.raises(TrustError, match="not trusted here"):
            examined.offer() if kind == "manifest" else examined.keys()
        examined.close()


class Ended(Examination):
    """The system ends it."""

    number = signal.SIGKILL

    def _work(self, tell: Callable[[str], None]) -> None:  # noqa: ARG002 - as it is called
        os.kill(os.getpid(), self.number)


class Late(Ended):
    """The device is too busy for it."""

    number = signal.SIGALRM


class Crashed(Ended):
    """It is the message that does it."""

    number = signal.SIGSEGV


@pytest.mark.parametrize(("kind", "error"), [(Ended, CutShortError), (Late, CutShortError), (Crashed, TrustError)])
def test_an_end_by_the_system_is_not_the_fault_of_the_message(kind: type[Ended], error: type[EdgeAgentError]) -> None:
    with pytest.raises(error, match="the manifest: could not be examined: it "):
        kind("manifest", envelope(manifest()), trusting(), NOW).offer()
    with pytest.raises(error, match="the keys: could not be examined: it "):
        kind("keys", key_envelope(key_list(BEN), ANN), trusting()).keys()


def test_the_serving_process_never_has_cryptography() -> None:
    """Neither after a manifest was examined, nor with everything imported that runs an agent."""
    message = envelope(manifest())
    program = f"""
import sys
import edge_agent.cli.run, edge_agent.assembly
from edge_agent.contract.minisign import PublicKey
from edge_agent.model.trust import Examination, Trust
node = Trust((PublicKey.parse({ANN.public_key.text!r}),), channel="stable")
print(Examination("manifest", {message!r}, node, {NOW}).offer().accepted.serial)
print([name for name in sys.modules if name.startswith(("cryptography", "_cffi", "edge_convert"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str(ISSUED), "[]"], done.stderr
