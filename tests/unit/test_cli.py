"""The command line as far as it needs no broker."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge_agent import __version__
from edge_agent.cli.main import _COMMANDS, cli, main
from edge_agent.contract.answers import Prediction
from edge_agent.contract.messages import Rejection, validator
from edge_agent.model.library import locate
from tests.e2e.tracks import HIP_HOP, IMPOSSIBLE, ROCK


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings from outside, and the logger put back afterwards."""
    for name in os.environ:
        if name.upper().startswith("EDGE_AGENT_"):
            monkeypatch.delenv(name)
    logger = logging.getLogger("edge_agent")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


def call(*arguments: str, stdin: bytes | None = None, status: int = 0) -> Result:
    """Call a command that ends by itself with `status`."""
    result = CliRunner().invoke(cli, arguments, input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> str:
    """The one line on stderr of a command that can't do its work."""
    with pytest.raises(SystemExit) as raised:
        main(list(arguments))
    assert raised.value.code == status
    out, err = capsys.readouterr()
    assert out == ""
    *logged, last = err.splitlines()
    assert last.startswith("edge-agent: ")
    assert not any(line.startswith(("edge-agent", "Traceback")) for line in logged)
    return last


def read(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_help_names_the_commands_and_each_has_its_own() -> None:
    text = call("--help").output
    for name, (_, help_) in _COMMANDS.items():
        assert name in text
        # The line in the list is the first of the command's own help.
        assert help_ in " ".join(call(name, "-h").output.split())
    assert call("--version").output == f"edge-agent, version {__version__}\n"


def test_wrong_usage_is_2() -> None:
    call("nonsense", status=2)
    call("try", "--nonsense", status=2)
    call("try", "a", "b", status=2)
    call("try", "--topic", "a", "--model", "genre", status=2)
    call("try", "--config", "a.toml", "--model", "genre", status=2)
    call("demo", "--seconds", "0", status=2)


def test_try_says_what_the_article_says() -> None:
    hip_hop, rock = read(call("try", json.dumps(HIP_HOP))), read(call("try", json.dumps(ROCK)))
    assert (hip_hop[0]["label"], rock[0]["label"]) == ("Hip-Hop", "Rock")
    validator(Prediction).validate_python(rock[0])


def test_try_answers_an_array_with_an_array() -> None:
    ((first, second),) = read(call("try", json.dumps([HIP_HOP, IMPOSSIBLE]), status=1))
    assert first["label"] == "Hip-Hop"
    validator(Rejection).validate_python(second)
    assert second["topic"] == "try"


def test_try_without_input_shows_the_examples() -> None:
    text = call("try").output
    assert "self-test passed" in text
    assert "Hip-Hop" in text
    assert "Rock" in text
    assert "acousticness" in text


def test_try_says_why() -> None:
    answer, *lines = call("try", "--explain", json.dumps(ROCK)).stdout.splitlines()
    assert "explanation" not in json.loads(answer)
    assert lines[:2] == ["  because speechiness <= 0.086038", "  and     danceability <= 0.592358"]
    assert lines[2].startswith("  it would be Hip-Hop with speechiness > 0.141726 (a change of +0.11")
    assert lines[3].startswith("  probability of Rock: 0.81049")
    assert lines[4].split()[0] == "speechiness"
    several = call("try", "--explain", json.dumps([ROCK, IMPOSSIBLE, HIP_HOP]), status=1).stdout.splitlines()
    assert [line for line in several if line.startswith("row")] == ["row 0", "row 2"]
    assert call("try", "--explain").stdout.count("\n  because ") == 2


def test_a_wish_in_a_conversation_is_one_of_its_message(tmp_path: Path) -> None:
    (tmp_path / "none.toml").touch()
    said = {"topic": "music/hall/features", "payload": ROCK, "explain": "shap"}
    (answer,) = read(call("try", "--config", str(tmp_path / "none.toml"), json.dumps(said)))
    assert answer["payload"]["explanation"]["of"] == "Rock"
    wrong = call("try", "--explain", "--topic", "music/hall/features", "{}", status=2)
    assert "the routes say what is explained" in wrong.output


def test_try_answers_ndjson_line_for_line() -> None:
    stdin = (
        lines({**ROCK, "id": 1}, {**IMPOSSIBLE, "id": 2}, [ROCK]) + b"not json\n\n  \n" + lines({**HIP_HOP, "id": 5})
    )
    answers = read(call("try", "-", stdin=stdin, status=1))
    assert [answer.get("id") if isinstance(answer, dict) else "batch" for answer in answers] == [1, 2, "batch", None, 5]
    assert [answer.get("error") if isinstance(answer, dict) else "batch" for answer in answers] == [
        None, "invalid_features", "batch", "malformed_payload", None,
    ]  # fmt: skip


def test_try_of_nothing_is_nothing() -> None:
    assert call("try", "-", stdin=b"").output == ""
    assert call("try", "-", stdin=b"\n\n").output == ""


def test_try_takes_any_bytes() -> None:
    answers = read(call("try", "-", stdin=b"\xff\xfe\n\x00\n" + b"[" * 5000 + b"\n", status=1))
    assert [answer["error"] for answer in answers] == ["malformed_payload"] * 3
    # An argument that is not UTF-8, as Python hands it over.
    (answer,) = read(call("try", '{"id": "\udcff"}', status=1))
    assert answer["error"] == "malformed_payload"


def test_try_reads_files(tmp_path: Path) -> None:
    one, many, table = tmp_path / "one.json", tmp_path / "many.NDJSON", tmp_path / "table.csv"
    one.write_text(json.dumps([ROCK, HIP_HOP], indent=2))
    many.write_bytes(lines(ROCK, HIP_HOP))
    table.write_text(
        "\ufeffid," + ",".join(ROCK) + ",more\n"
        "a," + ",".join(map(str, ROCK.values())) + ",x\n"
        "b," + ",".join(map(str, HIP_HOP.values())) + "\n"
        "c," + ",".join(["", *map(str, list(ROCK.values())[1:])]) + ",x,y,z\n",
        encoding="utf-8",
    )
    assert [row["label"] for row in read(call("try", str(one)))[0]] == ["Rock", "Hip-Hop"]
    assert [row["label"] for row in read(call("try", str(many)))] == ["Rock", "Hip-Hop"]
    answers = read(call("try", str(table), status=1))
    assert [(row["id"], row.get("label")) for row in answers] == [("a", "Rock"), ("b", "Hip-Hop"), ("c", None)]
    # An empty cell is a missing value.
    assert answers[2]["detail"][0]["type"] == "missing"


def test_try_of_files_that_are_not_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refused(capsys, "try", str(tmp_path / "no.json"), status=2)
    other = tmp_path / "data.parquet"
    other.touch()
    assert "INPUT must be" in refused(capsys, "try", str(other), status=2)
    table = tmp_path / "table.csv"
    table.write_bytes(b"a,b\n1,\xff\n")
    assert "not a CSV table" in refused(capsys, "try", str(table), status=2)


def test_try_on_a_topic_answers_by_the_routes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (answer,) = read(call("try", "--topic", "music/kitchen/features", json.dumps(ROCK)))
    assert (answer["topic"], answer["payload"]["label"]) == ("music/kitchen/genre", "Rock")
    (first, second) = read(call("try", "--topic", "music/kitchen/features", stdin=lines(ROCK, {}), status=1))
    assert (first["topic"], second["topic"]) == ("music/kitchen/genre", "music/kitchen/genre/error")
    (answer,) = read(call("try", "--topic", "music/kitchen/features", "21.5", status=1))
    assert answer["payload"]["error"] == "malformed_payload"
    table = tmp_path / "table.csv"
    table.write_text(",".join(ROCK) + "\n" + ",".join(map(str, ROCK.values())) + "\n")
    (answer,) = read(call("try", "--topic", "music/kitchen/features", str(table)))
    assert answer["payload"]["label"] == "Rock"
    config = tmp_path / "a.toml"
    config.write_text("")
    assert "add --topic" in refused(capsys, "try", "--config", str(config), str(table), status=2)


def test_try_with_models_that_can_not_be_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in refused(capsys, "try", "{}", "--model", "metal", status=3)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    says = refused(capsys, "try", "{}", "--model", str(broken), status=3)
    assert f"{broken}: onnxruntime can't open this as a model" in says
    assert says.endswith("copy the file again, or write it again with edge-convert")


def test_try_with_a_model_file(tmp_path: Path) -> None:
    own = tmp_path / "mine.onnx"
    own.write_bytes(locate("genre").read_bytes())
    assert read(call("try", json.dumps(ROCK), "--model", str(own)))[0]["label"] == "Rock"


def test_try_looks_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.onnx").write_bytes(locate("genre").read_bytes())
    monkeypatch.setenv("EDGE_AGENT_MODELS__DIRECTORY", str(tmp_path))
    assert read(call("try", json.dumps(ROCK), "--model", "mine"))[0]["label"] == "Rock"


def test_run_refuses_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[mqqt]\n")
    assert "did you mean 'mqtt'?" in refused(capsys, "run", "--config", str(file), status=2)
    assert "no such file" in refused(capsys, "run", "--config", str(tmp_path / "nowhere.toml"), status=2)
    file.write_text('[[route]]\nmodel = "metal"\n')
    assert "model 'metal': no such file" in refused(capsys, "run", "--config", str(file), status=3)
    file.write_text('[mqtt]\nusername = "ann"\npassword_file = "nowhere"\n')
    assert "nowhere: No such file or directory; check path" in refused(capsys, "run", "--config", str(file), status=2)


def test_check_refuses_a_wrong_configuration(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[[route]]\nsubscribe = "a/#"\n')
    for arguments in ((), ("--quick",)):
        text = call("check", "--config", str(file), *arguments, status=2).output
        assert text.startswith(f"FAIL  configuration  {file}: route 1: topic 'a/#'")
        assert text.count("\n") == 1
    file.write_text("[mqqt]\n")
    text = call("check", "--config", str(file), status=2).output
    assert text.endswith(f"mqqt is not a setting\n{' ' * 21}-> did you mean 'mqtt'?\n")
    (found,) = read(call("check", "--config", str(file), "--json", status=2))
    assert found["status"] == "fail"
    assert [(one["what"], one["verdict"], one["mend"]) for one in found["findings"]] == [
        ("configuration", "fail", "did you mean 'mqtt'?")
    ]


def test_check_offline_touches_neither_broker_nor_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The suite refuses sockets here: what needs a broker would be seen."""
    file = tmp_path / "agent.toml"
    file.write_text('[mqtt]\nhost = "broker.invalid"\n')
    text = call("check", "--config", str(file), "--offline").output
    assert {line.split()[1] for line in text.splitlines() if not line.startswith(" ")} >= {"configuration", "model"}
    assert "service" not in text
    assert call("check", "--config", str(file), "--offline", "--quiet").output == ""
    assert "one of them" in refused(capsys, "check", "--offline", "--quick", status=2)


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        ("[mqqt]\n", 2, "did you mean 'mqtt'?"),
        ("[mqtt\n", 2, "not valid TOML"),
        ('[mqtt]\nusername = "ann"\npassword_file = "nowhere"\n', 2, "nowhere: No such file"),
        ('[[route]]\nmodel = "metal"\n', 3, "model 'metal': no such file"),
        ('[[route]]\nfields = { speed = "v" }\n', 2, "has no such feature"),
    ],
)
def test_check_offline_finds_what_a_reload_would_refuse(tmp_path: Path, content: str, status: int, said: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(content)
    text = call("check", "--config", str(file), "--offline", "--quiet", status=status).output
    assert said in text
    assert all(line.startswith(("FAIL", " ")) for line in text.splitlines())
