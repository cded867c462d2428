"""Types of setting values, with their bounds: a value that MQTT, the file system or brokers don't accept is rejected when
the settings are read, not when it is first used.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from edge_agent.contract.card import FLOAT32_MAX
from edge_agent.contract.messages import MAX_PACKET_BYTES
from edge_agent.contract.topics import is_unfit
from edge_agent.payload import formats

#: MQTT 5, 1.5.4 and 1.5.6: the length of a string, or of binary data, is two bytes.
MAX_STRING_BYTES: Final = 65_535
#: Longest topic as written. Mosquitto ends the connection at more than 200 levels; a capture may expand to several.
_MAX_TOPIC: Final = 1024
_MAX_LEVELS: Final = 128
#: Linux: PATH_MAX less its closing zero, and NAME_MAX.
_MAX_PATH_BYTES: Final = 4095
_MAX_NAME_BYTES: Final = 255
#: A year, in seconds.
_YEAR: Final = 365 * 86_400


class Section(BaseModel):
    """One table of the settings: unknown keys are rejected, values are immutable, defaults are checked as well."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _string(text: str) -> str:
    """Check that MQTT can carry a text and that no broker ends the connection over it."""
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("text that can't be encoded as UTF-8") from None
    if length > MAX_STRING_BYTES:
        raise ValueError(f"longer than the {MAX_STRING_BYTES} bytes that MQTT can carry")
    if unfit := is_unfit(text):
        raise ValueError(f"text {unfit}, over which brokers end the connection")
    return text


def _topic(text: str) -> str:
    if len(text) > _MAX_TOPIC or text.count("/") >= _MAX_LEVELS:
        raise ValueError(f"longer than {_MAX_TOPIC} characters or {_MAX_LEVELS} levels, which some brokers reject")
    return _string(text)


def _path(path: Path) -> Path:
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise ValueError("contains a character that paths can't have") from None
    if length > _MAX_PATH_BYTES or "\0" in str(path):
        raise ValueError(f"not a path: longer than {_MAX_PATH_BYTES} bytes, or contains NUL")
    return path


def _file_or_none(text: str) -> str:
    if text and (text.endswith("/") or _path(Path(text)).name in {"", "..", "."}):
        raise ValueError("a directory; name a file in it, such as edge-agent.prom")
    return text


def _host(host: str) -> str:
    # One colon precedes a port; an IPv6 address has more. The value is not shown: it may be mqtt://user:password@host.
    if re.search(r"[\s/@\[\]\x00-\x1f]|^[^:]*:[^:]*$", host):
        raise ValueError("write only the host name, without mqtt://; port, username and path are separate settings")
    try:
        host.encode("idna")  # as a lookup does
    except UnicodeError:
        raise ValueError("not a host name: a part between dots is empty or longer than 63 characters") from None
    return host


def _model(model: str) -> str:
    if model.endswith(".onnx"):
        _path(Path(model))
    elif len(f"{model}.onnx".encode(errors="replace")) > _MAX_NAME_BYTES:
        raise ValueError(f"longer than a file name can be ({_MAX_NAME_BYTES} bytes with .onnx)")
    return _string(model)


def _content_type(name: str) -> str:
    if name not in formats.ALL:
        *others, last = (repr(one) for one in formats.ALL)
        raise ValueError(f"Input should be {', '.join(others)} or {last}")
    return name


#: Text that is sent as an MQTT string.
MqttText = Annotated[str, AfterValidator(_string)]
#: A topic with captures; `edge_agent.contract.topics.Template` checks its syntax.
TopicText = Annotated[str, AfterValidator(_topic)]
#: One level of a topic.
LevelText = Annotated[str, StringConstraints(pattern=r"^[^/+#\x00-\x1f\x7f-\x9f]{1,256}$"), AfterValidator(_string)]
FilePath = Annotated[Path, AfterValidator(_path)]
#: The path of a file, or empty for none.
FileOrNone = Annotated[str, AfterValidator(_file_or_none)]
HostName = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_host)]
#: A path that ends in .onnx, or the name of a model.
Model = Annotated[str, StringConstraints(min_length=1), AfterValidator(_model)]
#: One of the content types that payloads may have.
ContentType = Annotated[str, AfterValidator(_content_type)]
#: A pool of agents: one level of a topic.
Pool = Annotated[str, StringConstraints(pattern=r"^[^/+#\x00-\x1f\x7f-\x9f]{1,64}$"), AfterValidator(_string)]
#: Any that MQTT allows; some brokers' have slashes.
ClientId = Annotated[str, StringConstraints(min_length=1), AfterValidator(_string)]
#: The path to a value in a sensor's JSON: keys and array indices.
FieldPath = (
    Annotated[str, StringConstraints(max_length=1024)]
    | Annotated[tuple[Annotated[str, StringConstraints(max_length=256)], ...], Field(max_length=32)]
)
#: A finite number: none beyond float32, which models compute in.
Number = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False)]
FeatureName = Annotated[str, StringConstraints(max_length=128)]
#: Largest message in bytes: no more than MQTT can carry.
Bytes = Annotated[int, Field(ge=1, le=MAX_PACKET_BYTES)]
#: Number of rows or sensors: more would not fit into the memory of any device.
Many = Annotated[int, Field(ge=1, le=1_000_000)]
#: A route's time in seconds.
Wait = Annotated[float, Field(ge=0, le=_YEAR)]
Age = Annotated[float, Field(gt=0, le=_YEAR)]
