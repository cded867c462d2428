"""`edge-convert keygen`, `sign`, `keys`: options in, sentences out; the work is in `edge_convert.releasing` and `edge_convert.signing`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import click

from edge_agent.errors import InputError, TrustError
from edge_convert.options import FILE, require_place

if TYPE_CHECKING:
    from edge_agent.contract.manifest import KeyList, Release
    from edge_convert.signing import SecretKey

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: A hundred years: dates have four digits for the year.
_LONGEST: Final = 36_525 * 86_400


def _duration(text: str) -> int:
    """Read seconds, or a number with its unit: 90s, 10m, 12h, 30d."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a time such as 90s, 10m, 12h or 30d")
    seconds = int(found[1]) * _UNITS[found[2] or "s"]
    if seconds > _LONGEST:
        raise click.BadParameter(f"{text!r} is longer than 100 years")
    return seconds


class _SignOptions(TypedDict):
    keys: tuple[Path, ...]
    password_files: tuple[Path, ...]
    add: bool
    comment: str | None
    channel: str | None
    serial: int | None
    others: tuple[Path, ...]
    back: tuple[Path, ...]
    meant: tuple[str, ...]
    canary: float | None
    soak: int | None
    min_agreement: float | None
    max_failed: float | None
    max_rejected: float | None
    max_slower: float | None
    expires: int | None
    new_contract: bool
    title: str
    summary: str


_KEY = click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    required=True,
    help="A secret key of keygen or minisign; several sign together.",
)
_PASSWORDS = click.option(
    "--password-file",
    "password_files",
    type=FILE,
    multiple=True,
    help="A file with the password of the secret keys; or one for each key that has a password, in their order.  [default: asked for]",
)
_ONE_OR_EACH: Final = "give one file for all keys, or one for each key that has a password, in their order"
_SHARE = click.FloatRange(0, 1)


@click.command()
@click.option(
    "--out",
    type=FILE,
    default=Path("edge-agent.key"),
    show_default=True,
    help="The file of the secret key; the public one gets the ending .pub.",
)
@click.option("--no-password", is_flag=True, help="Don't encrypt the secret key: whoever reads the file can sign.")
@click.option("--password-file", type=FILE, help="A file with the password of the secret key.  [default: asked for]")
def keygen(out: Path, *, no_password: bool, password_file: Path | None) -> None:
    """Make a key that signs models for your devices, in minisign's format."""
    from edge_convert.signing import SecretKey, write_key

    if no_password and password_file is not None:
        raise click.UsageError("--no-password and --password-file: give one of them")
    password = None if no_password else _password(password_file, str(out), confirm=True)
    key = SecretKey.generate()
    public = write_key(key, out, password)
    click.echo(f"{out}: the secret key. Keep it off devices and brokers, and a copy in a safe place")
    click.echo(f"{public}: the public key. On each device:\n")
    click.echo(f'[update]\ntrusted_keys = ["{key.public_key.text}"]')


@click.command()
@click.argument("file", type=FILE)
@_KEY
@_PASSWORDS
@click.option("--add", is_flag=True, help="Keep the signatures of other keys in FILE.minisig.")
@click.option("--comment", help="The trusted comment, which is signed, too.  [default: time and name of the file]")
@click.option("--channel", help="Also write FILE.release for this channel, to be rolled out over MQTT.")
@click.option(
    "--serial",
    type=click.IntRange(1, (1 << 53) - 1),
    help="With --channel: higher than ever before.  [default: seconds since 1970]",
)
@click.option("--with", "others", type=FILE, multiple=True, help="With --channel: another model of the same release.")
@click.option("--back", type=FILE, multiple=True, help="With --channel: the model before, to go back to.")
@click.option(
    "--for",
    "meant",
    multiple=True,
    metavar="NODES",
    help="With --channel: a node, a pattern such as pi-*, or a share such as 10%.  [default: *]",
)
@click.option("--canary", type=_SHARE, help="With --channel: the share of sensors that ask the new model first.")
@click.option(
    "--soak", type=_duration, metavar="TIME", help="With --channel: how long new models are watched, such as 10m."
)
@click.option(
    "--min-agreement",
    type=_SHARE,
    help="With --channel: the share of answers in which new models have to agree with those before.",
)
@click.option(
    "--max-failed",
    type=_SHARE,
    help="With --channel: above this share of failed answers a device goes back.  [default: 0]",
)
@click.option("--max-rejected", type=_SHARE, help="With --channel: above this share of rejections a device goes back.")
@click.option(
    "--max-slower",
    type=click.FloatRange(1, 1e6, min_open=True),
    help="With --channel: a device goes back from a model that takes so many times the processor time, and more than 1 ms a row.",
)
@click.option(
    "--expires",
    type=_duration,
    metavar="TIME",
    help="With --channel: devices don't take it after that time, such as 30d; the way back of --back stays.",
)
@click.option(
    "--new-contract", is_flag=True, help="With --channel: the features or labels are not those of the model before."
)
@click.option("--title", default="", help="With --channel: shown to people who install it.")
@click.option("--summary", default="", help="With --channel: what is new, in a sentence.")
def sign(file: Path, **options: Unpack[_SignOptions]) -> None:
    """Sign FILE, a model: writes FILE.minisig, which minisign verifies as well, and with --channel FILE.release.

    A FILE that ends in .release or .keys gets one more signature inside, for devices with a threshold of keys.
    """
    from edge_agent.contract.manifest import RELEASE_SUFFIX
    from edge_convert import releasing

    inside = file.suffix in {RELEASE_SUFFIX, releasing.KEYS_SUFFIX}
    given = sorted(_only_for_releases(options))
    if given and (inside or options["channel"] is None):
        raise click.UsageError(f"{given[0]}: only with --channel, and a model to sign")
    if inside and (options["channel"] or options["add"] or options["comment"]):
        raise click.UsageError(f"{file}: gets a signature inside; remove --channel, --add and --comment")
    keys = _keys(options["keys"], options["password_files"])
    if file.suffix == RELEASE_SUFFIX:
        _show_release(file, releasing.countersign(file, keys))
    elif file.suffix == releasing.KEYS_SUFFIX:
        _show_keys(file, releasing.countersign_keys(file, keys))
    else:
        now = time.time()
        if options["channel"] is not None:
            terms = _terms(options, now)
            place, release = releasing.release(file, options["others"], options["back"], keys, terms)
            _show_release(place, release)
        signature = releasing.sign_file(file, keys, options["comment"], now, add=options["add"])
        click.echo(f"{signature}: signed by {_names(keys)}")


@click.command(name="keys")
@click.option("--channel", required=True, help="The channel that the keys sign for.")
@click.option(
    "--trust",
    "trusted",
    type=FILE,
    multiple=True,
    required=True,
    help="A public key (.pub) that is trusted from now on.",
)
@click.option(
    "--threshold", type=click.IntRange(1, 16), default=1, show_default=True, help="How many of them have to sign."
)
@click.option(
    "--serial", type=click.IntRange(1, (1 << 53) - 1), help="Higher than ever before.  [default: seconds since 1970]"
)
@_KEY
@_PASSWORDS
@click.option("--out", type=FILE, help="The file to write.  [default: CHANNEL.keys]")
def keys_(
    *,
    channel: str,
    trusted: tuple[Path, ...],
    threshold: int,
    serial: int | None,
    keys: tuple[Path, ...],
    password_files: tuple[Path, ...],
    out: Path | None,
) -> None:
    """Replace the keys that the devices of a channel trust: writes a message, signed with the keys trusted so far.

    Sign with all keys of the past that devices may still trust: those that were off miss the lists between.
    """
    from edge_agent.contract.manifest import KeyList, checked
    from edge_agent.contract.minisign import PublicKey
    from edge_convert import releasing

    found = []
    for path in trusted:
        try:
            found.append(PublicKey.parse(path.read_text()).text)
        except (OSError, UnicodeDecodeError, TrustError) as error:
            raise InputError(f"{path}: {error}") from error
    given = {"channel": channel, "serial": serial or int(time.time()), "keys": tuple(found), "threshold": threshold}
    try:
        said = checked(KeyList, given, "the list of keys")
    except TrustError as error:
        raise InputError(str(error)) from error
    out = out or Path(f"{channel}{releasing.KEYS_SUFFIX}")
    require_place(out, releasing.KEYS_SUFFIX)
    releasing.key_list(out, said, _keys(keys, password_files))
    _show_keys(out, said)


COMMANDS: Final = (keygen, sign, keys_)


def _terms(options: _SignOptions, now: float) -> Any:
    from edge_convert.releasing import Terms

    given: dict[str, Any] = {
        "for": options["meant"] or ("*",),
        "canary": options["canary"],
        "soak_seconds": options["soak"],
        "min_agreement": options["min_agreement"],
        "max_failed": options["max_failed"],
        "max_rejected": options["max_rejected"],
        "max_slower": options["max_slower"],
        "new_contract": options["new_contract"],
    }
    return Terms(
        options["channel"] or "",
        options["serial"] or int(now),
        now,
        options["expires"],
        {name: value for name, value in given.items() if value is not None},
        options["title"],
        options["summary"],
    )


def _only_for_releases(options: _SignOptions) -> list[str]:
    """Return the options that say something of a release."""
    names = {"others": "--with", "meant": "--for"}
    either = {"keys", "password_files", "add", "comment", "channel"}
    return [
        names.get(name, f"--{name.replace('_', '-')}")
        for name, value in options.items()
        if name not in either and value not in (None, False, "", ())
    ]


def _keys(paths: Sequence[Path], password_files: Sequence[Path]) -> list[SecretKey]:
    from edge_convert.signing import read_key

    left = list(password_files)

    def ask(path: Path) -> str:
        if not password_files:
            return _password(None, str(path))
        if not left:
            raise click.UsageError(f"--password-file: none is left for {path}; {_ONE_OR_EACH}")
        return _password(left[0] if len(password_files) == 1 else left.pop(0), str(path))

    found = [read_key(path, lambda path=path: ask(path)) for path in paths]  # type: ignore[misc]
    if left and len(password_files) > 1:
        raise click.UsageError(f"--password-file: no key needs {left[0]}; {_ONE_OR_EACH}")
    if len({key.id for key in found}) < len(found):
        raise click.UsageError("--key: the same key is there twice")
    return found


def _password(file: Path | None, what: str, *, confirm: bool = False) -> str:
    if file is not None:
        try:
            text = file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: can't be read: {error}") from error
    else:
        text = str(click.prompt(f"Password of {what}", hide_input=True, confirmation_prompt=confirm, err=True))
    if not text:
        raise InputError("an empty password protects nothing; write one, or use --no-password")
    return text


def _show_release(path: Path, release: Release) -> None:
    from edge_agent.contract.manifest import versions
    from edge_agent.contract.minisign import shown, signatures
    from edge_convert.releasing import manifest_of

    said = manifest_of(release.manifest)
    back = "" if release.back is None else f"; back to {versions(manifest_of(release.back).models)}"
    until = f", until {said.expires}" if said.expires else ""
    click.echo(
        f"{path}: {versions(said.models)} for {', '.join(said.meant)} in channel {said.channel}, serial {said.serial}{until}{back}"
    )
    names = ", ".join(shown(one.key_id) for one in signatures(release.manifest.signature))
    click.echo(f"signed by {names}; next: edge-deploy push {path.with_suffix('')} --channel {said.channel}")


def _show_keys(path: Path, said: KeyList) -> None:
    from edge_agent.contract import topics

    names = ", ".join(key.name for key in said.public_keys)
    verb = "signs" if said.threshold == 1 else "sign"
    click.echo(
        f"{path}: {said.threshold} of {names} {verb} for channel {said.channel} from now on, serial {said.serial}"
    )
    click.echo(f"next: mosquitto_pub -q 1 -r -t {topics.keys(said.channel)} -f {path}")


def _names(keys: Sequence[SecretKey]) -> str:
    return ", ".join(key.public_key.name for key in keys)
