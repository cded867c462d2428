"""TLS to the broker: makes an SSL context from files, and explains TLS errors with their fix.

Rules:

* The broker's certificate and host name are always checked; nothing here can turn that off.
* Secrets (the key, its passphrase) appear in no message. No environment variable makes OpenSSL write session keys to a
  file, as `ssl.create_default_context` would.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import FileError, SettingsError
from edge_agent.host import files

#: Largest file in bytes: a bundle of all public authorities has a few hundred kB.
_MAX_FILE_BYTES: Final = 4 << 20

_PLAIN: Final = "the port does not speak TLS; check mqtt.port, or remove [mqtt.tls] for an unencrypted connection"
_OWN_CERTIFICATE: Final = "check tls.certificate and tls.key, and that the broker trusts their issuer"
_TOO_OLD: Final = "the broker offers at most TLS 1.1; enable TLS 1.2 or later on the broker"

#: Parts of OpenSSL's names for handshake errors and for the broker's alerts -> their meaning. Only parts, because names
#: change: "sslv3 alert bad certificate" is "ssl/tls alert bad certificate" in OpenSSL 3.2.
_MEANING: Final = {
    "WRONG_VERSION_NUMBER": _PLAIN,
    "RECORD_LAYER_FAILURE": _PLAIN,
    "PACKET_LENGTH_TOO_LONG": _PLAIN,
    "HTTP_REQUEST": _PLAIN,
    "UNEXPECTED_EOF": "the broker ended the TLS handshake; check that mqtt.port is its port for TLS",
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "ALERT_PROTOCOL_VERSION": _TOO_OLD,
    "NO_APPLICATION_PROTOCOL": "the broker supports none of the protocols in tls.alpn; check tls.alpn",
    "UNRECOGNIZED_NAME": "the broker does not know the host name; check mqtt.host",
    "ALERT_UNKNOWN_CA": f"the broker does not trust our client certificate; {_OWN_CERTIFICATE}",
    "ALERT_DECRYPT_ERROR": f"the broker does not accept our client certificate; {_OWN_CERTIFICATE}",
    "ALERT_BAD_CERTIFICATE": f"the broker does not accept our client certificate; {_OWN_CERTIFICATE}",
    "ALERT_UNSUPPORTED_CERTIFICATE": f"the broker does not accept our client certificate; {_OWN_CERTIFICATE}",
    "ALERT_CERTIFICATE_UNKNOWN": f"the broker does not accept our client certificate; {_OWN_CERTIFICATE}",
    "ALERT_CERTIFICATE_REVOKED": "according to the broker our client certificate was revoked; renew tls.certificate",
    "ALERT_CERTIFICATE_EXPIRED": (
        "according to the broker our client certificate is not valid now; renew tls.certificate, or set the broker's clock"
    ),
}
_WANTS_CERTIFICATE: Final = "the broker requires a client certificate; set tls.certificate and tls.key"
#: Alerts that mean this if we have no certificate; if we have one, they mean that it is the wrong one.
_NO_CERTIFICATE: Final = ("ALERT_CERTIFICATE_REQUIRED", "ALERT_HANDSHAKE_FAILURE", "ALERT_BAD_CERTIFICATE")

#: openssl/x509_vfy.h, X509_V_ERR_...
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_HOST: Final = frozenset({62, 64})


@dataclass(frozen=True, kw_only=True)
class TlsOptions:
    """Files of the TLS connection, and the protocols offered by ALPN; without `ca` the system's authorities apply."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    alpn: tuple[str, ...] = ()


class TlsSocket(ssl.SSLSocket):
    """A TLS socket that remembers, in words, why reading ended.

    In TLS 1.3 a broker rejects our client certificate only after the handshake, so the first read reports it.
    """

    failure: str | None = None

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the signature of ssl.SSLSocket
        """Read as ssl.SSLSocket does; `recv` and `recv_into` call this."""
        try:
            return super().read(len, buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.failure = explain(error, has_certificate=bool(getattr(self.context, "has_certificate", False)))
            raise


class _Context(ssl.SSLContext):
    sslsocket_class = TlsSocket
    has_certificate = False


def make_context(options: TlsOptions) -> ssl.SSLContext:
    """Read the files. Raises `SettingsError` with the file and the fix."""
    # Not ssl.create_default_context: its strictness differs between Python versions (3.13 rejects the certificates of many
    # small authorities), and it obeys SSLKEYLOGFILE. Certificate and host name are checked without it, too.
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # tls.ca may be the certificate of the broker itself or of an intermediate authority.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    if options.ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, options.ca)
    if options.certificate is not None and options.key is not None:
        _load_own(context, options.certificate, options.key)
    return context


def digests(options: TlsOptions) -> tuple[bytes, ...]:
    """Return a hash of each file, to notice when one is renewed in place. Raises `SettingsError`."""
    files = {"ca": options.ca, "certificate": options.certificate, "key": options.key}
    return tuple(sha256(_read(name, path)).digest() for name, path in files.items() if path is not None)


def _load_authorities(context: ssl.SSLContext, ca: Path) -> None:
    _expect(_read("ca", ca), b"CERTIFICATE-----", "ca", ca, "certificate")
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise SettingsError(f"mqtt.tls.ca: {ca}: can't be used: {_reason(error)}") from error


def _load_own(context: _Context, certificate: Path, key: Path) -> None:
    _expect(_read("certificate", certificate), b"CERTIFICATE-----", "certificate", certificate, "certificate")
    _expect(_read("key", key), b"PRIVATE KEY-----", "key", key, "private key")

    def refuse() -> str:
        # Otherwise OpenSSL asks for the passphrase on the terminal, and a service would hang.
        raise SettingsError(
            f"mqtt.tls.key: {key}: is encrypted; decrypt it with openssl pkey -in {key.name} -out plain.key, and "
            "protect the result with file permissions or as a systemd credential"
        )

    try:
        context.load_cert_chain(certificate, key, refuse)
    except (OSError, ValueError) as error:
        if "MISMATCH" in str(getattr(error, "reason", "")):
            raise SettingsError(f"mqtt.tls.key: {key}: does not belong to the certificate {certificate}") from error
        raise SettingsError(f"mqtt.tls: {certificate} and {key}: can't be used: {_reason(error)}") from error
    context.has_certificate = True


def _read(name: str, path: Path) -> bytes:
    try:
        return files.read(path, limit=_MAX_FILE_BYTES)
    except FileError as error:
        raise SettingsError(f"mqtt.tls.{name}: {error}") from error


def _expect(content: bytes, mark: bytes, name: str, path: Path, what: str) -> None:
    if mark not in content:
        raise SettingsError(f"mqtt.tls.{name}: {path}: holds no {what} in PEM format")


def explain(error: OSError, *, has_certificate: bool) -> str:
    """Return the meaning of a failed handshake or a later alert, with the fix."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_verification(error)
    if isinstance(error, TimeoutError):
        return "no answer to the TLS handshake in time; check that mqtt.port is its port for TLS"
    if not isinstance(error, ssl.SSLError):  # a reset connection
        return f"the TLS handshake was cut off ({error.strerror or error}); check that mqtt.port is its port for TLS"
    # Depending on versions, it is "tlsv1 alert unknown ca" (OpenSSL) or TLSV1_ALERT_UNKNOWN_CA (Python).
    reason = _reason(error).upper().replace(" ", "_")
    if not has_certificate and any(known in reason for known in _NO_CERTIFICATE):
        return _WANTS_CERTIFICATE
    for known, meaning in _MEANING.items():
        if known in reason:
            return meaning
    return f"no TLS connection: {_reason(error)}"


def _explain_verification(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        how = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
        clock = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"its certificate {how}; renew it, or set the clock of this device (now {clock})"
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return (
            f"its certificate's issuer is not trusted ({error.verify_message}); set tls.ca to the certificate of the "
            "authority that signed it"
        )
    if error.verify_code in _OTHER_HOST:
        return (
            f"its certificate is for another host ({error.verify_message}); set mqtt.host to a name in the certificate"
        )
    return f"its certificate is not valid: {error.verify_message}; check tls.ca"


def _reason(error: Exception) -> str:
    """Return OpenSSL's own name for an error."""
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
