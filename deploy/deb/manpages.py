"""The manual pages, from what the program says of itself: `edge-agent --help`, and the commented configuration.

    python3 deploy/deb/manpages.py DIRECTORY

writes edge-agent.1 and edge-agent.toml.5. What frames them stands in deploy/deb/man. SOURCE_DATE_EPOCH is their date.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).parent / "man"
CONFIGURATION = ROOT / "deploy" / "edge-agent.toml"

#: Returns what `edge-agent COMMAND... --help` (or --version) prints.
Ask = Callable[..., str]


def ask(*words: str) -> str:
    """Run the program and return what it prints."""
    command = [sys.executable, "-m", "edge_agent", *words]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ours


def escape(text: str) -> str:
    """Return the text as roff(7) prints it: no escapes, no requests, and a minus that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def rejoin(text: str) -> str:
    """Undo the wrapping of a paragraph; a line that was broken at a hyphen gets no space there."""
    return re.sub(r"\s+", " ", re.sub(r"(?<=\w-)\n\s*", "", text.strip()))


def commands(ask: Ask, *group: str) -> Iterator[str]:
    """A sub-section for each command, and for each of a group: usage, text and options."""
    for name in re.findall(r"^  (\w\S*)", ask(*group, "--help").partition("\nCommands:\n")[2], flags=re.MULTILINE):
        usage, *blocks = ask(*group, name, "--help").rstrip().split("\n\n")
        yield f".SS {escape(rejoin(usage).removeprefix('Usage: '))}"
        for block in blocks:
            if block.startswith("Options:\n"):
                yield from _options(block.partition("\n")[2])
            elif block.startswith("Commands:\n"):
                yield from commands(ask, *group, name)
            else:
                yield f".PP\n{escape(rejoin(block))}"


def _options(block: str) -> Iterator[str]:
    for item in re.split(r"\n(?=  -)", block):
        option, text = re.split(r"  +|\n", item.strip(), maxsplit=1)
        if option != "-h, --help":
            yield f".TP\n.B {escape(option)}\n{escape(rejoin(text))}"


def settings(lines: list[str]) -> Iterator[str]:
    """The commented configuration: a sub-section for each table, an entry for each key, its comment as the text."""
    said: list[str] = []
    for line in lines:
        if table := re.fullmatch(r"(?:# )?(\[+[\w.]+\]+)", line):
            yield f".SS {table[1]}"
            yield from _flush(said)
        elif key := re.fullmatch(r"(?:# )?([a-z_]+) = (.*)", line):
            value = escape(key[2]).replace('"', '""')
            yield "\n".join([".TP", f'.BR {key[1]} " = {value}"', *([escape(" ".join(said))] if said else [])])
            said.clear()
        elif line.startswith("#  "):
            yield from _flush(said)
            yield f".EX\n{escape(line[2:])}\n.EE"
        elif line.startswith("# "):
            said.append(line[2:])
        else:
            yield from _flush(said)
    yield from _flush(said)


def _flush(said: list[str]) -> Iterator[str]:
    if said:
        yield f".PP\n{escape(' '.join(said))}"
        said.clear()


def pages(ask: Ask, configuration: str, epoch: int) -> dict[str, str]:
    """Return the pages by file name."""
    date = dt.datetime.fromtimestamp(epoch, dt.UTC).date().isoformat()
    version = ask("--version").split()[-1]
    generated = {"COMMANDS": commands(ask), "SETTINGS": settings(configuration.splitlines())}
    values = {name: "\n".join(parts) for name, parts in generated.items()} | {"DATE": date, "VERSION": version}
    return {
        template.stem: re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], template.read_text(encoding="utf-8"))
        for template in sorted(TEMPLATES.glob("*.in"))
    }


def main(directory: str) -> None:
    """Write the pages into the directory."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    for name, text in pages(ask, CONFIGURATION.read_text(encoding="utf-8"), epoch).items():
        Path(directory, name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
