"""The documents as programs: which shell blocks they hold and how each is meant.

A fenced block that opens with ```sh is run, from top to bottom of its document, by tests/e2e/test_documents.py. A
comment on the line above a block says more:

    <!-- background -->             keeps running until the document ends (a subscription, the agent)
    <!-- prints: Rock -->           and this text appears in what it prints; may be repeated
    <!-- not run: it needs root -->  only for a reason

The pages of DEVICE_PAGES are for a device of their own: tests/pi follows those, on a machine that boots. There, too:

    <!-- workstation -->            not on the device, but in the clone

Blocks of another kind (```console, ```text, ```toml, ...) are for reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: In the order in which they are followed: each goes on where the one before ends.
DEVICE_PAGES = tuple(
    ROOT / "docs" / name for name in ("raspberry-pi.md", "models-on-a-pi.md", "console.md", "security.md")
)

_FENCE = re.compile(r"^\s*(```+|~~~+)\s*([\w-]*)")
_COMMENT = re.compile(r"^\s*<!--\s*(.*?)\s*-->\s*$")
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)>\s]+)>?[^)]*\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")


@dataclass(frozen=True)
class Block:
    """One shell block: where it opens, its text, and what the comments above it say."""

    document: Path
    line: int
    text: str
    background: bool
    prints: tuple[str, ...]
    not_run: str | None
    workstation: bool = False

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def documents() -> list[Path]:
    """Every page of the project; a build directory or an environment may hold those of others."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    return sorted(found)


def _lines(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Each line with its number and the language of the fenced block that it lies in ("" for one without a name)."""
    fence, language = "", None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if match and not fence:
            fence, language = match[1], match[2]
            yield number, line, None
        elif fence and line.strip().startswith(fence):
            fence, language = "", None
            yield number, line, None
        else:
            yield number, line, language


def blocks(path: Path) -> list[Block]:
    found: list[Block] = []
    said: list[str] = []
    text: list[str] = []
    start = 0
    for number, line, language in _lines(path):
        if language is not None:
            text.append(line)
            continue
        fence, comment = _FENCE.match(line), _COMMENT.match(line)
        if fence and fence[2] == "sh" and not start:
            start, text = number, []
        elif fence and start:
            found.append(_block(path, start, "\n".join(text), said))
            start, said = 0, []
        elif comment:
            said.append(comment[1])
        elif line.strip():
            said = []
    return found


def _block(path: Path, line: int, text: str, said: list[str]) -> Block:
    prints: list[str] = []
    not_run: str | None = None
    for comment in said:
        key, _, value = comment.partition(":")
        if key == "prints":
            prints.append(value.strip())
        elif key == "not run":
            if not value.strip():
                raise ValueError(f"{path.name}:{line}: `not run` needs a reason")
            not_run = value.strip()
        elif key not in {"background", "workstation"}:
            raise ValueError(f"{path.name}:{line}: unknown comment {comment!r} above a shell block")
    return Block(path, line, text, "background" in said, tuple(prints), not_run, "workstation" in said)


#: A word in a page that names a file or folder of the clone.
_PATH = re.compile(r"(?<![\w./<-])(?:\./)?((?:[\w.-]+/)+[\w.@-]*|[\w-]+\.py)(?![\w/<{*-])")


def missing_paths(path: Path) -> list[str]:
    """Paths that a page names, in code or out of it, and that are neither in the clone nor in `edge_agent`.

    A path is what begins with a folder of the clone or of `edge_agent`, or ends in `.py`.
    """
    folders = {entry.name for base in (ROOT, ROOT / "edge_agent") for entry in base.iterdir() if entry.is_dir()}
    missing: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for found in _PATH.findall(re.sub(r"\]\([^)]*\)|https?:\S+", "]", line)):
            if not found.endswith(".py") and found.partition("/")[0] not in folders - {"build", "dist"}:
                continue
            if not any((base / found).exists() for base in (ROOT, ROOT / "edge_agent")):
                missing.append(f"{path.name}:{number}: {found}: no such file")
    return missing


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    found: set[str] = set()
    for _, line, language in _lines(path):
        heading = _HEADING.match(line) if language is None else None
        if heading:
            plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])).lower()
            base = plain.replace(" ", "-")
            found.add(base if base not in found else f"{base}-1")
    return found


def broken_links(path: Path, device: Path = Path("/")) -> list[str]:
    """Links to files or headings that are not there; links to the web are not followed. `device` is where / lies."""
    broken: list[str] = []
    for number, line, language in _lines(path):
        if language is not None:
            continue
        for target in _LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            file, _, anchor = target.partition("#")
            to = device / file[1:] if file.startswith("/") else path.parent / file if file else path
            if not to.exists():
                broken.append(f"{path.name}:{number}: {target}: no such file")
            elif anchor and to.suffix == ".md" and anchor not in anchors(to):
                broken.append(f"{path.name}:{number}: {target}: no such heading")
    return broken
