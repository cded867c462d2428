"""A Containerfile, read as an engine reads it, as far as ours goes: what we don't know is an error, and never passed over.

The reference is docs.docker.com/reference/dockerfile. Not taken: heredocs, parser directives, the shell form of anything
but RUN, and modifiers in variables (`${X:-y}`).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
CONTAINERFILE: Final = ROOT / "deploy" / "container" / "Containerfile"
IGNORE: Final = ROOT / ".dockerignore"

_FLAGS: Final = {
    "COPY": {"from"},
    "HEALTHCHECK": {"interval", "timeout", "start-period", "retries"},
}
_KNOWN: Final = frozenset(
    "ARG CMD COPY ENTRYPOINT ENV FROM HEALTHCHECK LABEL RUN STOPSIGNAL USER WORKDIR".split()  # noqa: SIM905 - to read
)
_ENDS: Final = re.compile(r"\\[ \t]*$")
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+)|(.?))")


class Instruction(NamedTuple):
    """`--flags` apart, and the rest as it stands."""

    line: int
    name: str
    flags: dict[str, str]
    rest: str

    def error(self, what: str) -> ValueError:
        return ValueError(f"line {self.line}: {self.name} {what}")

    def words(self, variables: Mapping[str, str]) -> list[str]:
        """The rest as words, with variables put in."""
        return [self.expand(word, variables) for word in shlex.split(self.rest)]

    def pairs(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The rest as `NAME=value ...`."""
        found = dict(word.partition("=")[::2] for word in self.words(variables) if "=" in word)
        if len(found) != len(shlex.split(self.rest)):
            raise self.error("takes NAME=value, each name once")
        return found

    def exec_form(self) -> list[str]:
        """The rest as a JSON array of words, the only form that passes signals on."""
        try:
            found = json.loads(self.rest)
        except ValueError:
            found = None
        if not isinstance(found, list) or not found or not all(isinstance(word, str) for word in found):
            raise self.error('takes the exec form here: ["word", ...]')
        return found

    def expand(self, text: str, variables: Mapping[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            if name not in variables:
                raise self.error(f"has {match[0]}, and no ARG or ENV before it")
            return variables[name]

        return _VARIABLE.sub(value, text)


def instructions(text: str) -> Iterator[Instruction]:
    """Each instruction. Raises `ValueError` for one that is not known, or not well formed."""
    logical, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not logical):
            continue  # also between the lines of one instruction
        start = start if logical else number
        logical += _ENDS.sub("", line)
        if not _ENDS.search(line):
            yield _instruction(start, logical)
            logical = ""
    if logical:
        raise ValueError(f"line {start}: nothing follows the last backslash")


def _instruction(line: int, logical: str) -> Instruction:
    name, _, rest = logical.strip().partition(" ")
    flags: dict[str, str] = {}
    rest = rest.lstrip()
    while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    found = Instruction(line, name, flags, rest)
    if name not in _KNOWN or flags.keys() - _FLAGS.get(name, set()):
        raise found.error(f"{sorted(flags)} is not known here")
    if rest.startswith("--") or not rest or (name == "RUN" and ("<<" in rest or rest.startswith("["))):
        raise found.error("is in a form that is not known here")
    return found


class Stage(NamedTuple):
    """From one FROM to the next. `base` is an image or an earlier stage."""

    name: str | None
    base: str
    steps: list[Instruction]


def stages(text: str, **given: str) -> list[Stage]:
    """The stages; `given` are build arguments. Raises `ValueError`."""
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for one in instructions(text):
        if one.name == "ARG" and not found:
            name, _, default = one.rest.partition("=")
            arguments[name] = given.get(name, default)
        elif one.name == "ARG":
            raise one.error("inside a stage is not known here")
        elif one.name == "FROM":
            match one.words(arguments):
                case [base]:
                    found.append(Stage(None, base, []))
                case [base, "AS", name]:
                    found.append(Stage(name, base, []))
                case _:
                    raise one.error("takes IMAGE [AS NAME]")
        elif not found:
            raise one.error("stands before the first FROM")
        else:
            found[-1].steps.append(one)
    if unknown := given.keys() - arguments.keys():
        raise ValueError(f"no ARG takes {sorted(unknown)}")
    return found


class Health(NamedTuple):
    """What HEALTHCHECK says."""

    command: list[str]
    options: dict[str, str]


class Config(NamedTuple):
    """What the last stage says about running it."""

    environment: dict[str, str]
    labels: dict[str, str]
    user: str
    entrypoint: list[str]
    command: list[str]
    stop_signal: str
    health: Health | None


def config(steps: list[Instruction]) -> Config:
    """Read what does not touch files. Raises `ValueError`."""
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    found = Config(environment, {}, "0:0", [], [], "SIGTERM", None)
    for one in steps:
        match one.name:
            case "ENV":
                environment.update(one.pairs(environment))
            case "LABEL":
                found.labels.update(one.pairs(environment))
            case "USER":
                found = found._replace(user=one.expand(one.rest, environment))
            case "STOPSIGNAL":
                found = found._replace(stop_signal=one.rest)
            case "ENTRYPOINT":
                # As engines do: a CMD before it is forgotten.
                found = found._replace(entrypoint=one.exec_form(), command=[])
            case "CMD":
                found = found._replace(command=one.exec_form())
            case "HEALTHCHECK":
                kind, _, command = one.rest.partition(" ")
                if kind != "CMD":
                    raise one.error("takes CMD here")
                found = found._replace(health=Health(one._replace(rest=command.strip()).exec_form(), one.flags))
    return found


def packages(steps: list[Instruction]) -> list[str]:
    """What `apt-get install` in a stage names."""
    found: list[str] = []
    for one in steps:
        for command in one.rest.split("&&") if one.name == "RUN" else ():
            words = command.split()
            if words[:2] == ["apt-get", "install"]:
                found += [word for word in words[2:] if not word.startswith("-")]
    return found


def is_ignored(path: str, patterns: str) -> bool:
    """Whether an ignore file keeps `path` out of the build: the last pattern that fits it, or a directory above it, decides."""
    above = Path(path)
    ways = [str(above), *(str(parent) for parent in above.parents if parent != Path())]
    ignored = False
    for line in patterns.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        out = not pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip("/")
        anywhere = pattern.removeprefix("**/")
        if any(
            fnmatchcase(way.rpartition("/")[2], anywhere)
            if pattern != anywhere
            else way.count("/") == pattern.count("/") and fnmatchcase(way, pattern)
            for way in ways
        ):
            ignored = out
    return ignored
