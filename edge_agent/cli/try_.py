"""`edge-agent try`: the smoke test. It needs no broker, but runs the same code that answers on one."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

import click
from click.core import ParameterSource

from edge_agent.cli.conversation import Conversation, TimedMessage, live, on_topic, read
from edge_agent.config.load import load
from edge_agent.config.models import library
from edge_agent.contract.card import Feature
from edge_agent.contract.messages import Answer, Message, to_json
from edge_agent.contract.tabular import Dialect, decode, decompress, records
from edge_agent.contract.templates import Template
from edge_agent.errors import InputError
from edge_agent.model.library import Predictor
from edge_agent.model.outputs import Output
from edge_agent.routing.routes import Route
from edge_agent.serving.engine import Model
from edge_agent.serving.pipeline import Pipeline
from edge_agent.wording import plain, plain_json

_ROUTE = Route("model", Template("try"), Template("prediction"), Template("rejection"))


_TABLES: Final = (".csv", ".tsv", ".txt")
_FILES: Final = (".json", ".ndjson", ".jsonl", *_TABLES)


class _DialectOptions(TypedDict):
    sep: str | None
    decimal: str
    encoding: str | None


@click.command(name="try")
@click.argument("source", metavar="[INPUT]", required=False)
@click.option(
    "--model", default="genre", show_default=True, help="Model file (*.onnx), or the name of an installed one."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),
    help="Configuration file: answer as the agent that runs with it would.",
)
@click.option("--topic", metavar="TOPIC", help="The topic that INPUT comes on, for the routes of the configuration.")
@click.option("--explain", is_flag=True, help="Say why each answer is what it is, for people (docs/explain.md).")
@click.option("--sep", metavar="CHAR", help="A table: what separates its columns; tab, blank.  [default: found out]")
@click.option("--decimal", default=".", show_default=True, help="A table: its decimal separator, . or ,")
@click.option("--encoding", help="A table: its encoding, such as cp1252.  [default: by its first bytes, or utf-8]")
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    model: str,
    config: Path | None,
    topic: str | None,
    *,
    explain: bool,
    **dialect: Unpack[_DialectOptions],
) -> None:
    """Run a model on the given input, without a broker.

    INPUT is a JSON object or array, a .json, .ndjson or .csv file (.tsv and .txt, too, and each also .gz), or - for NDJSON on
    standard input. Each message
    (an object, an array, a line, a row of a table) gives one line on standard output: a prediction or a rejection,
    exactly as on the wire. Without INPUT, the model's own examples are run and shown as a table.

    With --config or --topic, the routes of the configuration answer; each answer is a line {"topic": …, "payload": …}.
    INPUT, if not a file, may be any text then, such as 21.5; it is standard input if not given. Without --topic, it is
    a conversation: NDJSON lines {"topic": …, "payload": …}, where payload is a JSON value, or text; or lines of a topic
    and a payload, as mosquitto_sub -v prints them. In JSON, qos, retained, content_type, explain, and at (seconds, for max_age
    and debounce) may stand beside payload. Standard error says why a message has no answer.

    Exit status: 0 all predicted, 1 something was rejected or no route takes a topic, 2 usage error, 3 model unusable.
    """
    try:
        spoken = Dialect(dialect["sep"], dialect["decimal"], dialect["encoding"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if config is not None or topic is not None:
        if ctx.get_parameter_source("model") is not ParameterSource.DEFAULT:
            raise click.UsageError("--model goes without --config and --topic: the routes say which model answers")
        if explain:
            raise click.UsageError(
                "--explain goes without --config and --topic: the routes say what is explained, or a line does, as "
                '{"topic": …, "payload": …, "explain": "path"}'
            )
        ctx.exit(1 if _converse(config, topic, source, spoken) else 0)
    predictor = library(load()).load(model)
    pipeline = Pipeline([_ROUTE], {_ROUTE.model: predictor})
    if source is None:
        _show_examples(pipeline, predictor, explain=explain)
    else:
        for payload in _payloads(source, spoken):
            click.echo(plain_json(_ask(pipeline, payload).payload.decode()).encode())
            if explain:
                _explain(pipeline, payload)
    ctx.exit(1 if pipeline.tally.total.rejections else 0)


def _converse(config: Path | None, topic: str | None, source: str | None, dialect: Dialect) -> bool:
    """Answer as the agent that runs with `config` would; return whether anything was rejected, or had no route."""
    from edge_agent.assembly import make_plan

    settings = load(config)
    conversation = Conversation(make_plan(settings).pipeline, settings.routes(), time.monotonic)
    conversation.play(_said(topic, source or "-", conversation.patience, dialect))
    return conversation.failed


def _said(
    topic: str | None, source: str, patience: Callable[[], float | None], dialect: Dialect
) -> Iterator[TimedMessage | None]:
    """Yield the messages in `source`: payloads on `topic`, or a conversation when that is None."""
    is_file = source == "-" or _ending(source) in _FILES
    if topic is not None and not is_file:
        yield TimedMessage(Message(topic, os.fsencode(source)))
        return
    if topic is None and _ending(source) in _TABLES:
        raise InputError(f"{source}: a table says no topic; add --topic")
    lines = live(patience) if source == "-" else _payloads(source, dialect)
    if topic is not None:
        yield from on_topic(topic, lines)
    else:
        yield from read(lines, "standard input" if source == "-" else source if is_file else "INPUT")


def _ask(pipeline: Pipeline, payload: bytes) -> Answer:
    ((answer,),) = pipeline.process([Message(_ROUTE.subscribe.text, payload)])
    return answer


def _explain(pipeline: Pipeline, payload: bytes) -> None:
    from edge_agent.cli.reasons import told

    for line in told(pipeline, Message(_ROUTE.subscribe.text, payload)):
        click.echo(plain(line))


def _payloads(source: str, dialect: Dialect) -> Iterator[bytes]:
    """Yield the messages in `source`, each as it would come from the broker."""
    if source == "-":
        yield from _lines(sys.stdin.buffer)  # as they come: it may be a pipe that stays open
    elif source.lstrip()[:1] in ("{", "["):
        yield os.fsencode(source)  # the bytes as typed, whatever the locale
    else:
        yield from _from_file(Path(source), dialect)


def _ending(source: str) -> str:
    """Return what the name of a file ends in, apart from .gz."""
    return Path(source.lower().removesuffix(".gz")).suffix


def _from_file(path: Path, dialect: Dialect) -> Iterator[bytes]:
    ending = _ending(path.name)
    if ending not in _FILES:
        raise InputError(
            f"{path}: INPUT must be a JSON object or array, a .json, .ndjson or .csv file (also .tsv, .txt, each also .gz), or - for standard input"
        )
    try:
        content = decompress(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    if ending == ".json":
        yield content
    elif ending in _TABLES:
        yield from _rows(path, content, dialect)
    else:
        yield from _lines(content.splitlines())


def _lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines that are not blank, so that a trailing empty line is not taken for a message."""
    yield from (line for line in lines if line.strip())


def _rows(path: Path, content: bytes, dialect: Dialect) -> Iterator[bytes]:
    """Yield each row of a table as an object; an empty cell is a missing value."""
    try:
        for record in records(decode(content, dialect.encoding), dialect):
            yield to_json(record)
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: not a CSV table: {error}") from None


def _show_examples(pipeline: Pipeline, predictor: Predictor, *, explain: bool) -> None:
    card = predictor.card
    click.echo(plain(f"{card.name} {card.version}: {card.description or card.task}"))
    click.echo(plain(f"self-test passed on {len(card.self_test.rows)} rows; {predictor.where}") + "\n")
    for line in table_of_examples(pipeline, predictor):
        click.echo(plain(line))
    for name, row in _examples_of(predictor) if explain else ():
        click.echo("\n" + plain(name))
        _explain(pipeline, to_json(row))


def table_of_examples(pipeline: Pipeline, model: Model) -> Iterator[str]:
    """Yield the lines of a table: the examples on a model's card, and the model's answers to them."""
    card, output = model.card, model.output
    examples = _rows_of_examples(model)
    table = [["feature", *(name for name, _ in examples), "unit"]]
    for position, feature in enumerate(card.features):
        table.append([feature.name, *(_shown(feature, values[position]) for _, values in examples), feature.unit])
    rows = [_ask(pipeline, to_json(row)) for _, row in _examples_of(model)]
    answers = [_cells(output, json.loads(answer.payload)) for answer in rows]
    table += [[title, *cells, ""] for title, *cells in zip(output.columns, *answers, strict=True)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for number, row in enumerate(table):
        if number in (1, len(table) - len(output.columns)):
            yield "  ".join("-" * width for width in widths)
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _rows_of_examples(model: Model) -> list[tuple[str, tuple[float, ...]]]:
    card = model.card
    return [(example.name, example.features) for example in card.examples] or [
        ("typical", tuple(feature.example for feature in card.features))
    ]


def _examples_of(model: Model) -> list[tuple[str, dict[str, object]]]:
    """Return the examples on a card, by name, as messages would have them."""
    return [
        (name, {one.name: one.word(value) for one, value in zip(model.card.features, values, strict=True)})
        for name, values in _rows_of_examples(model)
    ]


def _shown(feature: Feature, value: float) -> str:
    word = feature.word(value)
    return f"{word:g}" if type(word) is float else word if isinstance(word, str) else to_json(word).decode()


def _cells(output: Output, answer: Mapping[str, Any]) -> tuple[str, ...]:
    if "error" in answer:
        return answer["error"], *[""] * (len(output.columns) - 1)
    return output.cells(answer)
