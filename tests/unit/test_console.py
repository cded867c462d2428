"""The page's own parts: what needs no browser, by Node's test runner, and that nothing in it makes markup of text.

tests/browser/ has the page in a browser.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.errors import InputError
from edge_agent.page import page
from tests.console import CONSOLE, evaluate, node

SOURCES = sorted(path for path in CONSOLE.rglob("*.js") if "node_modules" not in path.parts)


def test_its_pure_parts() -> None:
    done = node("--test", "--test-reporter=tap", "test/")
    assert done.returncode == 0, done.stdout + done.stderr


#: Ways from text to markup or code; h() in src/dom.js makes all elements.
MARKUP = re.compile(
    r"\.(?:inner|outer)HTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|\beval\(|new Function|javascript:"
)


def test_nothing_in_it_makes_markup_or_code_of_text() -> None:
    sources = [path for path in SOURCES if "src" in path.parts]
    assert len(sources) > 15
    found = {
        f"{path.relative_to(CONSOLE)}:{number}: {line.strip()}"
        for path in sources
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if MARKUP.search(line)
    }
    assert found == set()
    makers = {path.name for path in sources if re.search(r"\bcreateElement|\.setAttribute\(", path.read_text())}
    assert "dom.js" in makers


def test_no_module_grows_past_its_size() -> None:
    lengths = {str(path.relative_to(CONSOLE)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_library_is_locked_with_its_hash() -> None:
    package = json.loads((CONSOLE / "package.json").read_text())
    lock = json.loads((CONSOLE / "package-lock.json").read_text())["packages"]
    wanted = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"[\d.]+", version) for version in wanted.values())
    assert {name: lock[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert [name for name, one in lock.items() if name and not one.get("integrity", "").startswith("sha512-")] == []


HOSTILE = ["it's", 'a"b\\c', "$(reboot)${x}", "line\nbreak\t", "\u202e\u2028", "°C 🎵 \U000e0001", "%s {{ x }} #{y}"]


@pytest.fixture(scope="module")
def snippets() -> list[dict[str, str]]:
    """The snippets of a message for each hostile text, which is in its topic and in its payload."""
    imports = """
        import { arduino, esphome, paho } from "./src/snippets.js";
        import { toJson } from "./src/payload.js";
        const broker = { host: "broker.lan", port: 1883, user: "me", tls: true };
    """
    made = """given.map((text) => {
          const sent = { topic: `t/${text}`, payload: toJson({ [text]: text }), contentType: null };
          const typed = { ...sent, contentType: "application/json" };
          return { text, arduino: arduino([sent], broker), esphome: esphome([sent], broker), python: paho([sent], broker), typed: paho([typed], broker) };
        })"""
    found: list[dict[str, str]] = evaluate(imports, made, HOSTILE)
    return found


def test_python_reads_the_texts_back(snippets: list[dict[str, str]]) -> None:
    for made in snippets:
        for snippet in (made["python"], made["typed"]):
            assert snippet.isprintable() or set(snippet) >= {"\n"}
            texts = {one.value for one in ast.walk(ast.parse(snippet)) if isinstance(one, ast.Constant)}
            assert f"t/{made['text']}" in texts
            assert {made["text"]: made["text"]} in [_json(one) for one in texts]


def _json(text: object) -> Any:
    try:
        return json.loads(str(text))
    except ValueError:
        return None


def test_yaml_reads_the_texts_back(snippets: list[dict[str, str]]) -> None:
    class Loader(yaml.SafeLoader):  # type: ignore[misc] # yaml has no types
        """ESPHome's tags are its own."""

    Loader.add_constructor("!secret", lambda loader, node: f"secret {loader.construct_scalar(node)}")
    for made in snippets:
        read = yaml.load(made["esphome"], Loader)  # noqa: S506 - a safe loader
        assert read["mqtt"]["password"] == "secret mqtt_password"  # noqa: S105 - a placeholder
        (step,) = read["interval"][0]["then"]
        assert step["mqtt.publish"]["topic"] == f"t/{made['text']}"
        assert json.loads(step["mqtt.publish"]["payload"]) == {made["text"]: made["text"]}
        assert "${" not in step["mqtt.publish"]["payload"]


#: In place of Arduino's library: writes what is published.
PUB_SUB_CLIENT = """\
#include <cstdio>
struct PubSubClient {
    PubSubClient(int) {}
    void setServer(const char *, int) {}
    void setBufferSize(int) {}
    bool connected() { return false; }
    bool connect(const char *, const char *, const char *) { return true; }
    void publish(const char *topic, const char *payload) { printf("%s%c%s%c", topic, 0, payload, 0); }
};
static int network;
static const char *MQTT_PASSWORD = "";
"""


def test_a_compiler_reads_the_texts_back(snippets: list[dict[str, str]], tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler: sudo apt install g++")
    (tmp_path / "PubSubClient.h").write_text("#pragma once\n" + PUB_SUB_CLIENT)
    parts = [f"namespace n{number} {{\n{one['arduino']}\n}}" for number, one in enumerate(snippets)]
    parts = [part.replace("#include <PubSubClient.h>", "") for part in parts]
    calls = "".join(f"n{number}::setup(); n{number}::send();" for number in range(len(snippets)))
    code = "\n".join(["#include <PubSubClient.h>", *parts, f"int main() {{ {calls} }}"])
    (tmp_path / "all.cpp").write_text(code)
    # As strict as it gets, with trigraphs.
    command: list[str | Path] = [
        compiler,
        "-std=c++11",
        "-Wall",
        "-Werror",
        "-I",
        tmp_path,
        tmp_path / "all.cpp",
        "-o",
        tmp_path / "all",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = subprocess.check_output([tmp_path / "all"]).decode().split("\0")[:-1]
    assert said[::2] == [f"t/{one['text']}" for one in snippets]
    assert [json.loads(payload) for payload in said[1::2]] == [{one["text"]: one["text"]} for one in snippets]


PLACE = '<script type="application/json" id="document">null</script>'


def test_a_document_is_data_and_ends_no_element(tmp_path: Path) -> None:
    built = tmp_path / "page.html"
    built.write_text(f"<p>{PLACE}<script>code</script>")
    document = {"a": "</script><script>alert(1)</script><!--<script>", "b": "°\u2028"}
    made = page(json.dumps(document, ensure_ascii=False).encode() + b"\n", built).decode()
    head, data, tail = re.split(r'<script type="application/json" id="document">|</script><script>code', made)
    assert (head, tail) == ("<p>", "</script>")
    assert "<" not in data
    assert json.loads(data) == document
    assert page(built=built).decode() == built.read_text()


def test_without_the_built_page_it_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\./scripts/console in the clone builds it"):
        page(b"{}", tmp_path / "none.html")
    (tmp_path / "page.html").write_text("<p>of another version")
    with pytest.raises(InputError, match=r"no place for a document; \./scripts/console"):
        page(b"{}", tmp_path / "page.html")
    with pytest.raises(InputError, match="Is a directory"):
        page(b"{}", tmp_path)
