"""Files of the TLS connection, and what OpenSSL's errors mean: real handshakes, in memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import SettingsError
from edge_agent.link.tls import TlsOptions, explain, make_context
from tests.certificates import DAY, Authority, Pair

PASSPHRASE = "swordfish-and-more"  # noqa: S105 - nobody's


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def refusal(**files: Any) -> str:
    with pytest.raises(SettingsError) as raised:
        make_context(TlsOptions(**files))
    message = str(raised.value)
    assert "\n" not in message
    return message


def serve(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str = "localhost") -> tuple[str | None, str]:
    """Return the protocol chosen by ALPN and the TLS version; raises what the client's side raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(10):
        for side in sides:
            try:
                side.do_handshake()
                side.read(1)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                if side is sides[0]:
                    raise
    return sides[0].selected_alpn_protocol(), str(sides[0].version())


def trouble(client: ssl.SSLContext, server: ssl.SSLContext, host: str = "localhost", *, own: bool = False) -> str:
    with pytest.raises(ssl.SSLError) as raised:
        shake_hands(client, server, host)
    return explain(raised.value, has_certificate=own)


def test_a_good_connection_is_tls_1_3_and_alpn_chooses(authority: Authority) -> None:
    server = serve(authority.issue("broker"))
    server.set_alpn_protocols(["http/1.1", "mqtt"])
    client = make_context(TlsOptions(ca=authority.file, alpn=("x-amzn-mqtt-ca", "mqtt")))
    assert shake_hands(client, server) == ("mqtt", "TLSv1.3")


def test_certificate_and_host_name_are_always_checked(authority: Authority) -> None:
    for options in (TlsOptions(), TlsOptions(ca=authority.file)):
        context = make_context(options)
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_session_keys_are_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert make_context(TlsOptions()).keylog_filename is None


def test_the_certificate_of_the_broker_itself_will_do_as_ca(authority: Authority) -> None:
    pair = authority.issue("broker")
    shake_hands(make_context(TlsOptions(ca=pair.certificate)), serve(pair))


@pytest.mark.parametrize(
    ("make", "host", "expected"),
    [
        (lambda _, other: other.issue("b"), "localhost", "issuer is not trusted"),
        (lambda ours, _: ours.issue("b", ends=-DAY, starts=-2 * DAY), "localhost", "has expired; renew it, or set"),
        (lambda ours, _: ours.issue("b", starts=DAY, ends=2 * DAY), "localhost", "is not valid yet; renew it, or"),
        (lambda ours, _: ours.issue("b"), "broker.lan", "for another host (Hostname mismatch"),
        (lambda ours, _: ours.issue("b"), "192.0.2.1", "for another host (IP address mismatch"),
    ],
)
def test_a_certificate_of_the_broker_that_is_not_right(
    tmp_path: Path, authority: Authority, make: Callable[[Authority, Authority], Pair], host: str, expected: str
) -> None:
    words = trouble(
        make_context(TlsOptions(ca=authority.file)), serve(make(authority, Authority(tmp_path, "other"))), host
    )
    assert expected in words
    assert ("the clock of this device" in words) == ("valid" in expected or "expired" in expected)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_our_certificate_is_not_right(tmp_path: Path, authority: Authority, version: ssl.TLSVersion) -> None:
    server = serve(authority.issue("broker"))
    server.load_verify_locations(authority.file)
    server.verify_mode = ssl.CERT_REQUIRED
    server.maximum_version = version
    none = make_context(TlsOptions(ca=authority.file))
    assert "requires a client certificate; set tls.certificate" in trouble(none, server)
    stranger = Authority(tmp_path, "other").issue("stranger")
    wrong = make_context(TlsOptions(ca=authority.file, certificate=stranger.certificate, key=stranger.key))
    assert "does not trust our client certificate; check tls.certificate" in trouble(wrong, server, own=True)
    late = authority.issue("late", starts=-2 * DAY, ends=-DAY)
    expired = make_context(TlsOptions(ca=authority.file, certificate=late.certificate, key=late.key))
    assert "our client certificate is not valid now; renew" in trouble(expired, server, own=True)
    good = authority.issue("good")
    shake_hands(make_context(TlsOptions(ca=authority.file, certificate=good.certificate, key=good.key)), server)


def test_a_broker_that_speaks_something_else() -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = make_context(TlsOptions()).wrap_bio(to_client, to_server, server_hostname="localhost")
    to_client.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ssl.SSLError) as raised:
        side.do_handshake()
    assert "does not speak TLS; check mqtt.port" in explain(raised.value, has_certificate=False)


def test_other_ends_of_a_handshake() -> None:
    assert "no answer to the TLS handshake in time" in explain(TimeoutError("timed out"), has_certificate=False)
    reset = explain(ConnectionResetError(104, "Connection reset by peer"), has_certificate=False)
    assert "cut off (Connection reset by peer); check that mqtt.port is its port for TLS" in reset
    # Whatever OpenSSL comes up with is told in its own words.
    assert explain(ssl.SSLError(1, "[SSL: NEW] new (_ssl.c:1)"), has_certificate=False).startswith("no TLS connection:")


def test_files_that_are_not_there_or_not_right(tmp_path: Path, authority: Authority) -> None:
    pair, other = authority.issue("agent"), authority.issue("other")
    missing, text = tmp_path / "missing", tmp_path / "text"
    text.write_text("no PEM")
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert refusal(ca=missing) == f"mqtt.tls.ca: {missing}: No such file or directory; check path and permissions"
    assert refusal(ca=tmp_path) == f"mqtt.tls.ca: {tmp_path}: Is a directory, not a file; name the file itself"
    assert refusal(ca=text) == f"mqtt.tls.ca: {text}: holds no certificate in PEM format"
    assert refusal(ca=broken).startswith(f"mqtt.tls.ca: {broken}: can't be used: ")
    assert f"mqtt.tls.key: {missing}: No such file" in refusal(certificate=pair.certificate, key=missing)
    assert (
        refusal(certificate=pair.certificate, key=text) == f"mqtt.tls.key: {text}: holds no private key in PEM format"
    )
    assert "holds no certificate" in refusal(certificate=pair.key, key=pair.certificate)
    mismatch = refusal(certificate=pair.certificate, key=other.key)
    assert mismatch == f"mqtt.tls.key: {other.key}: does not belong to the certificate {pair.certificate}"
    assert "can't be used" in refusal(certificate=broken, key=pair.key)


def test_a_file_without_an_end(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(ca=endless).startswith(f"mqtt.tls.ca: {endless}: is too large")


def test_an_encrypted_key_is_refused_and_nobody_is_asked(authority: Authority) -> None:
    pair = authority.issue("agent", passphrase=PASSPHRASE)
    message = refusal(certificate=pair.certificate, key=pair.key)
    assert message.startswith(f"mqtt.tls.key: {pair.key}: is encrypted; decrypt it with openssl pkey -in agent.key")
