"""The broker, as a server of AsyncAPI: where it is, how one logs in, and what it says when the agent is gone.

Whoever may subscribe reads this. So there is no username in it, no password, no client id (with which one could end the agent's
connection), no path of a file, and of a WebSocket's path no query, where hosted brokers want a token.
"""

from __future__ import annotations

from typing import Any, Final

from edge_agent.config.connection import Mqtt
from edge_agent.config.settings import Settings
from edge_agent.docs.keys import ref
from edge_agent.serving.announcements import will

_VERSIONS: Final = {"auto": "5.0", "5": "5.0", "3.1.1": "3.1.1"}
_SCHEMES: Final = {
    ("tcp", False): "mqtt",
    ("tcp", True): "mqtts",
    ("websockets", False): "ws",
    ("websockets", True): "wss",
    ("unix", False): "mqtt",
}
#: The binding of AsyncAPI 3.0 for MQTT 3.1.1 and 5.
BINDING: Final = "0.2.0"
_LOGIN: Final = {"type": "userPassword", "description": "Username and password, as the broker has them."}
_CERTIFICATE: Final = {"type": "X509", "description": "A client certificate that the broker trusts."}


def server(settings: Settings) -> dict[str, Any]:
    """Return the server object."""
    mqtt, last = settings.mqtt, will(settings.node.id)
    binding = {
        "keepAlive": mqtt.keepalive,
        "sessionExpiryInterval": mqtt.session_expiry,
        "lastWill": {
            "topic": last.topic,
            "message": last.payload.decode(),
            "qos": last.qos,
            "retain": last.retain and mqtt.retain is not False,
        },
        "bindingVersion": BINDING,
    }
    made: dict[str, Any] = {
        **_host(mqtt),
        "protocol": _SCHEMES[mqtt.transport, mqtt.uses_tls],
        "protocolVersion": _VERSIONS[mqtt.protocol],
        "description": _description(mqtt),
        "bindings": {"mqtt": binding},
    }
    if mqtt.transport == "websockets":
        made["pathname"] = mqtt.path.partition("?")[0]
    if schemes := security(settings):
        made["security"] = [ref("components", "securitySchemes", name) for name in schemes]
    return made


def security(settings: Settings) -> dict[str, Any]:
    """Return the security schemes, by name."""
    mqtt = settings.mqtt
    schemes = {"login": _LOGIN} if mqtt.username is not None else {}
    if mqtt.uses_tls and mqtt.tls is not None and mqtt.tls.file("certificate") is not None:
        schemes["certificate"] = _CERTIFICATE
    return schemes


def _host(mqtt: Mqtt) -> dict[str, Any]:
    if mqtt.transport == "unix":
        return {"host": "localhost"}
    name = f"[{mqtt.host}]" if ":" in mqtt.host else mqtt.host
    if "{" in name or "}" in name:  # braces would be a variable
        return {"host": f"{{host}}:{mqtt.actual_port}", "variables": {"host": {"enum": [name], "default": name}}}
    return {"host": f"{name}:{mqtt.actual_port}"}


def _description(mqtt: Mqtt) -> str:
    said = ["The broker that the agent is connected to."]
    if mqtt.transport == "unix":
        said.append("Here over a unix socket of its own machine.")
    if mqtt.protocol == "auto":
        said.append("MQTT 5, or 3.1.1 where the broker refuses that.")
    if mqtt.uses_tls:
        said.append("With TLS 1.2 or later.")
    return " ".join(said)
