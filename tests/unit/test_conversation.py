"""What `edge-agent try --config --topic` answers: the routes of a configuration, played message by message."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_agent.assembly import make_plan
from edge_agent.cli.conversation import Conversation, TimedMessage, read
from edge_agent.config.load import load
from edge_agent.contract.messages import Message
from edge_agent.errors import InputError
from tests.e2e.tracks import HIP_HOP, IMPOSSIBLE, ROCK

CHANGES = """
[[route]]
subscribe = "home/{room}/track"
publish = "genre/{room}"
partial = "merge"
"""
FEATURES = list(ROCK)


class Player:
    """Plays conversations with a configuration; the clock stands where it is put."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = directory / "edge-agent.toml"
        self.capsys = capsys
        self.now = 100.0

    def play(self, toml: str, messages: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str], bool]:
        """Return the answers, what stands on standard error, and whether anything failed."""
        self.file.write_text(toml)
        settings = load(self.file)
        conversation = Conversation(make_plan(settings).pipeline, settings.routes(), lambda: self.now)
        conversation.play(read([json.dumps(one).encode() for one in messages], "here"))
        out, err = self.capsys.readouterr()
        return [json.loads(line) for line in out.splitlines()], err.splitlines(), conversation.failed


@pytest.fixture
def player(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Player:
    return Player(tmp_path, capsys)


def said(topic: str, payload: object = "", **more: object) -> dict[str, Any]:
    return {"topic": topic, "payload": payload, **more}


def part(*names: str) -> dict[str, float]:
    return {name: ROCK[name] for name in names}


def test_each_answer_names_its_topic(player: Player) -> None:
    answers, remarks, failed = player.play(
        '[[route]]\nsubscribe = "a/{x}"\npublish = "b/{x}"\n', [said("a/1", ROCK), said("a/2", HIP_HOP), said("a/3", 7)]
    )
    assert [one["topic"] for one in answers] == ["b/1", "b/2", "b/3/error"]
    assert [one["payload"].get("label") for one in answers] == ["Rock", "Hip-Hop", None]
    assert not remarks
    assert failed


def test_parts_are_merged_and_what_is_missing_is_said(player: Player) -> None:
    first, second = part(*FEATURES[:5]), part(*FEATURES[5:])
    answers, remarks, failed = player.play(
        CHANGES, [said("home/k/track", first), said("home/k/track", second), said("home/k/track", first)]
    )
    assert [(one["topic"], one["payload"]["label"]) for one in answers] == [("genre/k", "Rock")]
    assert remarks == [
        f"home/k/track: no answer yet: k still lacks {', '.join(FEATURES[5:])}",
        "home/k/track: no answer: nothing has changed since the last one",
    ]
    assert not failed


def test_sources_meet_whatever_their_topics(player: Player) -> None:
    wheres = ["{ " + ", ".join(f'{name} = "{name}"' for name in names) + " }" for names in (FEATURES[:5], FEATURES[5:])]
    toml = (
        '[[route]]\npublish = "genre/{room}"\n'
        f'[[route.source]]\nsubscribe = "one/{{room}}"\nfields = {wheres[0]}\n'
        f'[[route.source]]\nsubscribe = "meter"\nsensor = {{ room = "k" }}\nfields = {wheres[1]}\n'
    )
    answers, remarks, _ = player.play(toml, [said("meter", part(*FEATURES[5:])), said("one/k", part(*FEATURES[:5]))])
    assert [one["topic"] for one in answers] == ["genre/k"]
    assert len(remarks) == 1


def test_a_topic_that_no_route_takes_names_the_routes(player: Player) -> None:
    answers, remarks, failed = player.play(CHANGES, [said("home/k/tracks", ROCK), said("home/+/track", ROCK)])
    assert not answers
    assert remarks == [
        "home/k/tracks: no route takes this topic; the routes take home/{room}/track",
        "home/+/track: no route takes this topic; the routes take home/{room}/track",
    ]
    assert failed


def test_why_a_message_is_ignored(player: Player) -> None:
    toml = CHANGES + 'retained = "ignore"\n[[route]]\nsubscribe = "v/{x}/{feature}"\npublish = "w/{x}"\n'
    _, remarks, failed = player.play(
        toml,
        [
            said("home/k/track"),
            said("home/k/track", ROCK, retained=True),
            said("home/k/track", {"battery": 50}),
            said("v/k/Tempo", "120"),
            said("v/other/Tempo", "120"),
        ],
    )
    assert remarks == [
        "home/k/track: ignored: the payload is empty",
        "home/k/track: ignored: the broker had kept it",
        "home/k/track: ignored: it brings no feature of the model, or not all of them",
        "v/k/Tempo: ignored: 'Tempo' is no feature of the model; is 'tempo' meant?",
        "v/other/Tempo: ignored: 'Tempo' is no feature of the model; is 'tempo' meant?",
    ]
    assert not failed


def test_debounced_answers_come_at_their_time(player: Player) -> None:
    messages = [
        said("home/k/track", ROCK, at=10),
        said("home/k/track", HIP_HOP, at=11),
        said("home/other/track", ROCK, at=11.5),
        said("home/k/track", ROCK, at=20),
    ]
    answers, remarks, _ = player.play(CHANGES + "debounce = 2\n", messages)
    assert [(one["topic"], one["payload"]["label"]) for one in answers] == [
        ("genre/k", "Hip-Hop"),
        ("genre/other", "Rock"),
        ("genre/k", "Rock"),
    ]
    assert remarks[0] == "home/k/track: no answer yet: put off for 2.0 s, for more changes may come"


def test_values_grow_too_old(player: Player) -> None:
    first, second = part(*FEATURES[:7]), part(*FEATURES[7:])
    messages = [said("home/k/track", first, at=0), said("home/k/track", second, at=61)]
    answers, remarks, _ = player.play(CHANGES + "max_age = 60\n", messages)
    assert not answers
    assert "(too old)" in remarks[1]
    assert FEATURES[0] in remarks[1]


def test_without_a_time_of_its_own_a_message_comes_when_it_is_read(player: Player) -> None:
    player.file.write_text(CHANGES + "debounce = 2\n")
    settings = load(player.file)
    conversation = Conversation(make_plan(settings).pipeline, settings.routes(), lambda: player.now)

    def live() -> Any:
        yield TimedMessage(Message("home/k/track", json.dumps(ROCK).encode()))
        player.now += 3
        yield TimedMessage(Message("home/none", b"1"))
        assert "Rock" in player.capsys.readouterr().out

    conversation.play(live())


def test_what_is_put_off_is_waited_for_by_the_clock_unless_messages_bring_their_times(player: Player) -> None:
    player.file.write_text(CHANGES + "debounce = 2\n")
    settings = load(player.file)
    conversation = Conversation(make_plan(settings).pipeline, settings.routes(), lambda: player.now)
    message = Message("home/k/track", json.dumps(ROCK).encode())

    def live() -> Any:
        assert conversation.patience() is None
        yield TimedMessage(message)
        player.now += 0.5
        assert conversation.patience() == 1.5
        yield None
        assert player.capsys.readouterr().out == ""
        player.now += 1.5
        assert conversation.patience() == 0
        yield None
        assert "Rock" in player.capsys.readouterr().out
        assert conversation.patience() is None
        yield TimedMessage(message._replace(topic="home/other/track"), 1000.0)
        assert conversation.patience() is None

    conversation.play(live())
    assert "genre/other" in player.capsys.readouterr().out


def test_other_formats_go_in_and_out_as_base64(player: Player) -> None:
    cbor2 = pytest.importorskip("cbor2")
    payload = base64.b64encode(cbor2.dumps(ROCK)).decode()
    ((answer,), _, _) = player.play(
        CHANGES.replace("merge", "reject"),
        [{"topic": "home/k/track", "payload_base64": payload, "content_type": "application/cbor"}],
    )
    assert answer["content_type"] == "application/cbor"
    assert cbor2.loads(base64.b64decode(answer["payload_base64"]))["label"] == "Rock"


def test_lines_as_mosquitto_sub_prints_them() -> None:
    lines = [b'tele/k/SENSOR {"a": 1}\n', b"\n", b"shellies/x/sensor/temperature 21.5\r\n", b"gone \n", b"gone\n"]
    assert [one.message[:2] for one in read(lines, "here") if one is not None] == [
        ("tele/k/SENSOR", b'{"a": 1}'),
        ("shellies/x/sensor/temperature", b"21.5"),
        ("gone", b""),
        ("gone", b""),
    ]


def test_text_is_sent_as_it_is_and_json_as_json() -> None:
    lines = [json.dumps(said("t", payload)).encode() for payload in ("ON", "", 21.5, None, [1], {"a": "ü"})]
    assert [one.message.payload for one in read(lines, "here") if one is not None] == [
        b"ON", b"", b"21.5", b"null", b"[1]", '{"a":"ü"}'.encode(),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "line 2: "),
        (b"{}", "line 2: topic: missing"),
        (b'{"topic": "t", "qos": 3}', "line 2: qos: "),
        (b'{"topic": "t", "time": 3}', "line 2: time: unknown key"),
        (b'{"topic": "t", "at": -1}', "line 2: at: "),
        (b'{"topic": "t", "at": 1}', "line 2: at: 1 comes after 5"),
        (b'{"topic": "t", "payload_base64": "?"}', "line 2: "),
        (b'{"topic": "t", "payload": "\\ud800"}', "line 2: "),
        (b'{"topic": "\\ud800"}', "line 2: topic: "),
        (b'{"topic": ' + b"[" * 100_000, "line 2: "),
    ],
)
def test_a_wrong_line_is_named(line: bytes, words: str) -> None:
    with pytest.raises(InputError, match=f"^here: {words}"):
        list(read([b'{"topic": "t", "at": 5}', line], "here"))


def test_a_rejection_fails(player: Player) -> None:
    ((answer,), remarks, failed) = player.play(CHANGES, [said("home/k/track", IMPOSSIBLE)])
    assert answer["topic"] == "genre/k/error"
    assert not remarks
    assert failed
