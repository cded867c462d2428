"""The pictures of the README: what the demo shows on a terminal, and the benchmark as a chart. `scripts/pictures` makes both.

    python -m benchmarks.pictures demo docs/pictures/demo.svg
    python -m benchmarks.pictures watch docs/pictures/watch.svg
    python -m benchmarks.pictures chart docs/pictures/bench.json docs/pictures/performance.svg

The first runs `edge-agent demo` on a terminal of its own, and draws what stands there at its end. The second does the same with
`edge-agent watch`, which looks on at a demo. The third draws what `scripts/bench` wrote; the same figures give the same bytes. No picture refers to anything on the web.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from benchmarks.results import Spread

_COLUMNS: Final = 104
_LINES: Final = 40
_COMMAND: Final = "./scripts/demo"

#: Readable on its own dark ground, so it is the same picture on a light page and on a dark one.
_THEME: Final = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    # black, red, green, yellow, blue, magenta, cyan, white
    [
        (72, 79, 88),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (88, 166, 255),
        (188, 140, 255),
        (57, 197, 207),
        (201, 209, 217),
    ],
)
#: As rich draws it, but for the font: its own comes from the web.
_TERMINAL: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
        font-variant-east-asian: full-width;
        white-space: pre;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""
_CONTROL: Final = re.compile(r"\x1b\[([?\d;]*)([A-Za-ln-z])|(\r|\n)")


def screen(written: str) -> list[str]:
    """Return the lines that stand on a terminal after all this was written to it, colours as they came.

    It knows what rich's live display uses: going up lines, and erasing one.
    """
    lines, row, end = [""], 0, 0
    for found in _CONTROL.finditer(written):
        lines[row] += written[end : found.start()]
        end = found.end()
        if found[3] == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif found[2] == "A":
            row = max(0, row - int(found[1] or 1))
        elif found[2] == "K":
            lines[row] = ""
    lines[row] += written[end:]
    return lines


def watch(command: Sequence[str]) -> str:
    """Run a command on a terminal of its own and return what it wrote. Raises `CalledProcessError`."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(_COLUMNS)}
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        written = bytearray()
        try:
            while piece := os.read(ours, 65536):
                written += piece
        except OSError:  # how Linux tells that the other end is closed
            pass
        os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), written.decode(errors="replace"))
    return written.decode()


def look_on(program: str) -> list[str]:
    """Run a demo and `edge-agent watch` beside it; return what the latter leaves on its terminal."""
    command = [program, "demo", "--seconds", "60"]
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        ) as demo,
    ):
        assert demo.stdout is not None  # noqa: S101 - for the type checker
        found = re.search(r":(\d+)", demo.stdout.readline())
        try:
            if found is None:
                raise RuntimeError(f"{' '.join(command)}: it does not say the port of its broker")
            file = Path(directory, "watch.toml")
            file.write_text(f'[mqtt]\nhost = "127.0.0.1"\nport = {found[1]}\n', encoding="utf-8")
            written = watch([program, "watch", "--config", str(file), "--seconds", "45"])
        finally:
            demo.terminate()
    return screen(written.rpartition("\x1b[?1049l")[2])


def draw_terminal(command: str, lines: Sequence[str]) -> str:
    """Return a terminal as SVG: the command that was typed, and the lines below it."""
    console = Console(record=True, width=_COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123 - ends with the program
    console.print(f"[bold]$ {command}[/bold]", highlight=False)
    for line in AnsiDecoder().decode("\n".join(lines).rstrip()):
        console.print(line, highlight=False)
    drawn = console.export_svg(title="edge-agent", theme=_THEME, code_format=_TERMINAL, unique_id="demo")
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


#: Who is in the chart, as `scripts/bench` names them, and in words.
_SUBJECTS: Final = {
    "agent": "edge-agent",
    "echo": "paho-mqtt echo: no check, no model",
    "afternoon": "paho-mqtt + onnxruntime, by hand",
    "fastapi": "FastAPI + scikit-learn, over HTTP",
    "flask": "Flask + scikit-learn, over HTTP",
}
#: The same load for all: single rows, as many of them as there can be.
_SCENARIOS: Final = frozenset({"mqtt-5/qos1/500/1", "http/20/1"})
_CHART: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img" font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif">
<title>{title}</title>
<style>
.t {{ fill: #1f2328 }} .n {{ fill: #59636e }} .a {{ fill: #1a7f37 }} .o {{ fill: #afb8c1 }} .r {{ stroke: #59636e; stroke-width: 1.5 }}
@media (prefers-color-scheme: dark) {{
.t {{ fill: #e6edf3 }} .n {{ fill: #9198a1 }} .a {{ fill: #3fb950 }} .o {{ fill: #57606a }} .r {{ stroke: #9198a1 }} }}
</style>
{parts}
</svg>
"""
_WIDTH: Final = 840
_LABELS: Final = 290
_BARS: Final = 490
_ROW: Final = 34


def cpu_milliseconds(measured: dict[str, Any]) -> dict[str, Spread]:
    """Return the CPU time of each subject for 1,000 messages, in milliseconds, over the rounds."""
    found: dict[str, list[float]] = {}
    for one in measured["measurements"]:
        if one["scenario"] in _SCENARIOS:
            found.setdefault(one["subject"], []).append(1000 * one["cpu_per_1000"])
    return {name: Spread.of(found[name]) for name in _SUBJECTS}


def draw_chart(measured: dict[str, Any]) -> str:
    """Return bars of the CPU time that 1,000 messages take, as SVG, from the content of a bench.json.

    CPU time rather than a rate: it is what a small board has little of, and other programs on the machine change it little.
    """
    figures = cpu_milliseconds(measured)
    scale = _BARS / max(figure.high for figure in figures.values())
    title = "CPU time for 1,000 messages, in milliseconds (less is better)"
    parts = [f'<text class="t" x="0" y="20" font-size="16" font-weight="600">{title}</text>']
    for row, (name, figure) in enumerate(figures.items()):
        top, length = 36 + row * _ROW, scale * figure.median
        low, high = _LABELS + scale * figure.low, _LABELS + scale * figure.high
        agent, said = name == "agent", escape(_SUBJECTS[name])
        weight = ' font-weight="600"' if agent else ""
        parts += [
            f'<text class="t" x="{_LABELS - 12}" y="{top + 18}" font-size="14" text-anchor="end"{weight}>{said}</text>',
            f'<rect class="{"a" if agent else "o"}" x="{_LABELS}" y="{top}" width="{length:.1f}" height="26" rx="3"/>',
            f'<path class="r" d="M{low:.1f} {top + 13}H{high:.1f}"/>',
            f'<text class="t" x="{high + 8:.1f}" y="{top + 18}" font-size="14"{weight}>{figure.median:.0f}</text>',
        ]
    bottom = 36 + len(figures) * _ROW + 20
    for number, line in enumerate(_conditions(measured)):
        parts.append(f'<text class="n" x="0" y="{bottom + 18 * number}" font-size="12">{escape(line)}</text>')
    return _CHART.format(width=_WIDTH, height=bottom + 28, title=title, parts="\n".join(parts))


def _conditions(measured: dict[str, Any]) -> tuple[str, str]:
    """Return what the figures belong to, in two lines."""
    machine, plan = measured["machine"], measured["plan"]
    versions = {"Python": machine["python"], "Mosquitto": machine["mosquitto"]}
    versions |= {name: machine["libraries"][name] for name in ("paho-mqtt", "onnxruntime", "scikit-learn")}
    others = "; other programs were running" if measured["warning"] else ""
    where = f"{machine['cores']} cores of an {machine['cpu']}, {machine['time'][:10]}{others}"
    return (
        f"Single rows; MQTT 5 at QoS 1. Median and range of {plan['rounds']} rounds on {where}.",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ". Made by scripts/bench.",
    )


def main(kind: str, *files: str) -> None:
    """Write one of the pictures."""
    *given, out = map(Path, files)
    if kind == "demo":
        program = Path(sys.executable).with_name("edge-agent")
        drawn = draw_terminal(_COMMAND, screen(watch([str(program), "demo"])))
    elif kind == "watch":
        drawn = draw_terminal("edge-agent watch", look_on(str(Path(sys.executable).with_name("edge-agent"))))
    else:
        drawn = draw_chart(json.loads(given[0].read_text(encoding="utf-8")))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
