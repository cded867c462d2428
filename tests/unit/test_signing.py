"""Secret keys: minisign's format in both directions, and passwords."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from edge_convert.signing import LEAST, SecretKey, read_key, write_key

from edge_agent.contract.minisign import PublicKey, Signature
from edge_agent.errors import InputError
from edge_agent.model.trust import verify
from tests.brokers import find_program
from tests.trusted import ANN, signed

#: Written by minisign 0.11 with -W; nobody's.
PLAIN = """\
untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAeCS9aMlKi6G9S9lduI+C1wp1QlYOHWbeFUUPxJ4Ic/CQUISYnNld3wMWyCIzVumy5xxKu6QlA2/veht0UeojXD2bi7nusaSEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
"""
PLAIN_PUBLIC = "RWR4JL1oyUqLoQMWyCIzVumy5xxKu6QlA2/veht0UeojXD2bi7nusaSE"
#: Written by minisign 0.11 with the password "pw".
ENCRYPTED = """\
untrusted comment: minisign encrypted secret key
RWRTY0IyJAQa6I5IFf/qzhRV4AXBNyfSn+8HgCtdZRGuRf1OsIMAAAACAAAAAAAAAEAAAAAASXZe7eeSuRnIuGgLE7n0tEI3GEYSfZFf2xEOwMb6NJ0WXe+9DHeKzBpLyxbrVwxVirGgu03ME2xbFPDdTh5aSPr5oLZHouRx6v5PSgX4mJuoTIllLwZAkjNGemK3FrMvFNPIY/voGq8=
"""


def unasked() -> str:
    raise AssertionError("no password is needed")


def test_a_key_of_minisign_without_a_password() -> None:
    key = SecretKey.parse(PLAIN, "key", unasked)
    assert key.public_key.text == PLAIN_PUBLIC
    assert verify(b"model", signed(b"model", key), [PublicKey.parse(PLAIN_PUBLIC)])


@pytest.mark.long
def test_a_key_of_minisign_with_a_password() -> None:
    """With minisign's own cost, which is 1 GiB of memory."""
    key = SecretKey.parse(ENCRYPTED, "key", lambda: "pw")
    assert key.public_key.text == "RWQA4ncG03/3GM0HeCMgGH8j9/1ito0E05NxB7D0u7glNX+Jm9qn4sRf"


def test_a_key_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    public = write_key(ANN, path, None)
    assert read_key(path, unasked) == ANN
    assert public == tmp_path / "a.pub"
    assert PublicKey.parse(public.read_text()) == ANN.public_key
    assert path.stat().st_mode & 0o777 == 0o600


#: Writes a key where files may have so many bytes: as on a full disk, in a process of its own, for the limit stays.
CRAMPED = """
import resource, signal, sys
from pathlib import Path
from edge_agent.errors import InputError
from edge_convert.signing import SecretKey, write_key
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_key(SecretKey.generate(), Path(sys.argv[1]), None)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 100])
def test_half_a_key_is_not_left(tmp_path: Path, room: int) -> None:
    path = tmp_path / "a.key"
    command = [sys.executable, "-c", CRAMPED, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: can't be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_secret_key_does_not_stay_without_its_public_one(tmp_path: Path) -> None:
    long = tmp_path / ("k" * 252 + ".k")  # with .pub, longer than names may be
    with pytest.raises(InputError, match=r"\.pub: can't be written: File name too long"):
        write_key(ANN, long, None)
    assert list(tmp_path.iterdir()) == []


def test_a_password_protects_a_key(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_key(ANN, path, "correct horse", LEAST)
    assert read_key(path, lambda: "correct horse") == ANN
    assert ANN.seed not in path.read_bytes()
    with pytest.raises(InputError, match="wrong password"):
        read_key(path, lambda: "Correct horse")
    # No two files are alike, even of one key and one password.
    assert ANN.text("pw", LEAST) != ANN.text("pw", LEAST)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_key(ANN, path, None)
    before = path.read_bytes()
    with pytest.raises(InputError, match="never overwritten"):
        write_key(SecretKey.generate(), path, None)
    path.rename(tmp_path / "b.key")
    with pytest.raises(InputError, match=r"a\.pub: is there already"):
        write_key(SecretKey.generate(), path, None)
    assert (tmp_path / "b.key").read_bytes() == before
    assert not path.exists()


@pytest.mark.parametrize("place", range(0, 158, 5))
def test_a_damaged_key_signs_nothing(place: int) -> None:
    """Even one without a password has a checksum, when it is ours."""
    import base64

    head, line = ANN.text(None).splitlines()
    content = bytearray(base64.b64decode(line))
    content[place] ^= 1
    text = f"{head}\n{base64.b64encode(content).decode()}\n"
    if 6 <= place < 54:  # salt and cost, which only a password needs
        assert SecretKey.parse(text, "key", unasked) == ANN
    else:
        with pytest.raises(InputError):
            SecretKey.parse(text, "key", unasked)


@pytest.mark.parametrize("text", ["", "\n", "untrusted comment: x\nRWR", ANN.public_key.file, "x" * 5000])
def test_what_is_no_secret_key_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a secret key"):
        SecretKey.parse(text, "key", unasked)


def test_a_key_that_asks_for_too_much_is_refused() -> None:
    """Its cost is read before the password is right: a file from elsewhere may not take all memory."""
    head, line = ANN.text("pw", LEAST).splitlines()
    import base64

    content = bytearray(base64.b64decode(line))
    content[38:54] = (1 << 60).to_bytes(8, "little") * 2
    with pytest.raises(InputError, match="more memory or time"):
        SecretKey.parse(f"{head}\n{base64.b64encode(content).decode()}\n", "key", lambda: "pw")


@pytest.fixture
def minisign() -> str:
    found = find_program("minisign")
    if found is None:
        pytest.skip("minisign is missing: sudo apt install minisign")
    return str(found)


def test_minisign_takes_our_keys_and_signatures(minisign: str, tmp_path: Path) -> None:
    """Ours is verified by minisign; minisign signs with a key that we encrypted, and that is verified here."""
    model = tmp_path / "genre.onnx"
    model.write_bytes(os.urandom(5000))
    public = write_key(ANN, tmp_path / "a.key", "pw", LEAST)

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([minisign, *arguments], input="pw\n", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    beside = tmp_path / "genre.onnx.minisig"
    beside.write_text(signed(model.read_bytes(), ANN, comment="by edge-convert ü"))
    assert "Trusted comment: by edge-convert ü" in run("-V", "-H", "-p", public, "-m", model)
    beside.unlink()
    run("-S", "-s", tmp_path / "a.key", "-m", model, "-t", "by minisign")
    found = verify(model.read_bytes(), beside.read_text(), [ANN.public_key])
    assert found == ((ANN.public_key.name,), "by minisign")
    assert Signature.parse(beside.read_text()).key_id == ANN.id


def test_we_take_keys_that_minisign_makes(minisign: str, tmp_path: Path) -> None:
    secret, public = tmp_path / "m.key", tmp_path / "m.pub"
    subprocess.run([minisign, "-G", "-W", "-s", secret, "-p", public], capture_output=True, check=True)
    key = read_key(secret, unasked)
    assert key.public_key == PublicKey.parse(public.read_text())
    # Its comment names the key by the same number, in older versions without leading zeros.
    assert int(public.read_text().split()[5], 16) == int(key.public_key.name, 16)
