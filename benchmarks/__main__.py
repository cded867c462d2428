"""`python -m benchmarks`, or `scripts/bench`, which sets everything up first."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks import machine, scenarios
from benchmarks.contenders import ROOT, SUBJECTS
from benchmarks.processes import ENDING, BenchmarkError
from benchmarks.report import render
from benchmarks.session import Session
from benchmarks.targets import judge


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 1 when a program failed, or, with --strict, a target was missed."""
    options = _parse(arguments)
    chosen = [subject for subject in SUBJECTS if subject.name in options.only] if options.only else list(SUBJECTS)
    plan = (scenarios.SMOKE if options.smoke else scenarios.QUICK if options.quick else scenarios.FULL).with_rounds(
        options.rounds
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for number in ENDING:
        signal.signal(number, _interrupt)
    try:
        described = machine.describe()
        with (
            tempfile.TemporaryDirectory(prefix="edge-agent-bench-") as directory,
            Session(plan, chosen, Path(directory), _say) as session,
        ):
            results = session.run()
    except BenchmarkError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything it had started is ended", file=sys.stderr)
        return 130
    verdicts = judge(results)
    warning = machine.busy(described)
    print(render(results, verdicts, described, warning))
    report, picture = options.out / "bench.json", options.out / "bench.png"
    content = {
        "machine": described,
        "warning": warning,
        **results.to_json(),
        "ratios": [one.to_json() for one in verdicts],
    }
    report.write_text(json.dumps(content, indent=1) + "\n")
    # It takes a second to import, so only now that nothing is measured any more.
    from benchmarks.plot import draw

    draw(results, described, warning, picture)
    print(f"\nwritten: {report}, {picture}")
    return 1 if options.strict and any(one.ok is False for one in verdicts) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="The agent side by side with what a user would otherwise pick, on this machine. "
        "docs/performance.md says what is measured and what each column means.",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="only what the ratios need, in about a minute")
    length.add_argument("--smoke", action="store_true", help="only whether it all works; the figures say nothing")
    parser.add_argument("--rounds", type=_positive, help="rounds to take the median of (default: 5; 3 with --quick)")
    parser.add_argument(
        "--only",
        action="append",
        choices=[subject.name for subject in SUBJECTS],
        metavar="NAME",
        help=f"measure only this one; may be repeated: {', '.join(subject.name for subject in SUBJECTS)}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "build" / "bench",
        metavar="DIR",
        help="where bench.json and bench.png go (default: build/bench)",
    )
    parser.add_argument("--strict", action="store_true", help="end with status 1 when a target is missed")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
