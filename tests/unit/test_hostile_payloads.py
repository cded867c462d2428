"""Payloads made to cost memory: each of four megabytes at the most, and none may take more than a few tens of them.

Measured from outside the test's own process; each payload has a process, whose peak is its own too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from edge_agent.payload import weights
from tests.patience import DEADLINE

#: Bytes above what the process has with everything loaded: what weighing allows, and as much again for rows and answer.
ALLOWED = weights.MAX_WEIGHT * 2
#: Of processor time.
SECONDS = 10.0

SIZE = 4 << 20
#: name -> content type, and the payload as an expression.
PAYLOADS = {
    "objects": ("json", 'b"[" + b",".join([b"{}"] * (SIZE // 3 - 1)) + b"]"'),
    "as many objects as rows": ("json", 'b"[" + b",".join([b"{}"] * 10_000) + b"]"'),
    "a wrong value in every row": ("json", """b"[" + b",".join([b'{"a":"%s"}' % (b"x" * 400)] * 10_000) + b"]" """),
    "objects in an object": ("json", """b'{"a":[' + b",".join([b"{}"] * (SIZE // 3 - 4)) + b"]}" """),
    "arrays": ("json", 'b"[" + b",".join([b"[]"] * (SIZE // 3 - 1)) + b"]"'),
    "numbers": ("json", 'b"[" + b",".join([b"0"] * (SIZE // 2 - 1)) + b"]"'),
    "numbers, just not too many": ("json", 'b"[" + b",".join([b"0"] * (weights.MAX_WEIGHT // 41)) + b"]"'),
    "brackets": ("json", 'b"[" * SIZE'),
    "one long text": ("json", """b'{"a":"' + b"x" * (SIZE - 8) + b'"}' """),
    "keys": ("json", "json.dumps({str(key): 0 for key in range(SIZE // 16)}).encode()"),
    "records": ("senml+json", """b"[" + b",".join([b'{"n":"a","v":1}'] * (SIZE // 17)) + b"]" """),
    "times": ("senml+json", """b"[" + b",".join([b'{"n":"a","v":1,"t":%d}' % t for t in range(99_000)]) + b"]" """),
    "packed": ("octet-stream", "bytes(SIZE)"),
    "CBOR arrays": ("cbor", r'b"\x80" * SIZE'),
    "CBOR array of arrays": ("cbor", r'b"\x9a" + (SIZE - 5).to_bytes(4, "big") + b"\x80" * (SIZE - 5)'),
    "CBOR, nested": ("cbor", r'b"\x81" * SIZE'),
    "CBOR with a length that lies": ("cbor", r'b"\x9b" + b"\xff" * 8 + bytes(SIZE - 9)'),
    "CBOR references to a text": (
        "cbor",
        r'b"\xd9\x01\x00\xa1\x62id\x9f\x79\xff\xff" + b"x" * 65535 + b"\xd8\x19\x00" * 20_000 + b"\xff"',
    ),
    "CBOR decimal of a huge number": ("cbor", r'b"\xa1\x61a\xc4\x82\x00\xc2\x5a\x00\x0a\x00\x00" + b"\xff" * 0xA0000'),
    "CBOR decimals": ("cbor", r'b"\x9f" + (b"\xc4\x82\x00\xc2\x59\x04\x00" + b"\xff" * 1024) * 4000 + b"\xff"'),
    "CBOR text in pieces": ("cbor", r'b"\x7f" + b"\x60" * (SIZE - 2) + b"\xff"'),
}

MEASURE = """
import json, os, resource, sys, time
from edge_agent.payload import formats
from edge_agent.payload import weights
from edge_agent.contract.messages import Message
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import ROUTE, FakeModel, make_card

pipeline = Pipeline([ROUTE], {"genre": FakeModel(make_card(tuple("abcdefgh")))})
pipeline.process([Message("music/x/features", b"{}")])
formats.find("application/cbor").decode(b"\\x80", [])

def measure(name, kind, payload):
    assert len(payload) <= SIZE, name
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    ((answer,),) = pipeline.process([Message("music/x/features", payload, 1, "application/" + kind)])
    seconds = time.process_time() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps([name, {"peak": peak, "seconds": seconds, "answer": len(answer.payload)}]), flush=True)

SIZE = int(sys.argv[1])
for name, (kind, payload) in json.loads(sys.argv[2]).items():
    child = os.fork()
    if not child:
        measure(name, kind, eval(payload))
        os._exit(0)
    os.waitpid(child, 0)
"""


@cache
def measured() -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(SIZE), json.dumps(PAYLOADS)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    print(ran.stderr)  # noqa: T201 - shown when it fails
    return dict(json.loads(line) for line in ran.stdout.splitlines())


@pytest.mark.parametrize("name", PAYLOADS)
def test_it_stays_small(name: str) -> None:
    if PAYLOADS[name][0] == "cbor":
        pytest.importorskip("cbor2")
    found = measured()[name]
    print(found)  # noqa: T201 - shown when it fails
    assert found["peak"] < ALLOWED
    assert found["seconds"] < SECONDS
    assert found["answer"] < 2 * SIZE
