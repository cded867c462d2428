"""A Home Assistant core without its web interface, for the tests beside it: run by the Python that has `homeassistant`.

    python core.py CONFIGURATION_DIRECTORY PORT

It reads configuration.yaml there, and is connected to the MQTT broker on that port of this machine. It prints a line of JSON for each state that changes, each service that is called, and
each warning. It ends with its standard input; its registries stay in the directory, as on a machine that is restarted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

from homeassistant import bootstrap, config_entries, loader
from homeassistant.components.automation import DOMAIN as AUTOMATION
from homeassistant.config import async_hass_config_yaml
from homeassistant.const import EVENT_CALL_SERVICE, EVENT_STATE_CHANGED
from homeassistant.core import CoreState, Event, HomeAssistant, callback
from homeassistant.setup import async_setup_component


def say(kind: str, **told: Any) -> None:
    print(json.dumps({"kind": kind, **told}, default=str), flush=True)  # noqa: T201 - what the tests read


class Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say("warning", text=record.getMessage())


async def start(directory: Path, port: int) -> HomeAssistant:
    hass = HomeAssistant(str(directory))
    loader.async_setup(hass)
    hass.config.skip_pip = True
    # What the configuration flow of MQTT needs, and nothing else here: no port is opened.
    hass.config.components.update({"http", "file_upload"})
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)

    @callback
    def changed(event: Event[Any]) -> None:
        state = event.data["new_state"]
        told = {} if state is None else {"state": state.state, "attributes": dict(state.attributes)}
        say("state", entity=event.data["entity_id"], **told)

    @callback
    def called(event: Event[Any]) -> None:
        say("service", name=f"{event.data['domain']}.{event.data['service']}", data=event.data["service_data"])

    hass.bus.async_listen(EVENT_STATE_CHANGED, changed)
    hass.bus.async_listen(EVENT_CALL_SERVICE, called)
    for component in ("homeassistant", "persistent_notification"):
        await async_setup_component(hass, component, {})
    if not hass.config_entries.async_entries("mqtt"):
        entry = config_entries.ConfigEntry(
            data={"broker": "127.0.0.1", "port": port, "discovery": True},
            discovery_keys={},  # type: ignore[arg-type]
            domain="mqtt",
            entry_id="mqtt",
            minor_version=2,
            options={},
            source="user",
            subentries_data=(),
            title="MQTT",
            unique_id=None,
            version=1,
        )
        await hass.config_entries.async_add(entry)
    else:
        entry = hass.config_entries.async_entries("mqtt")[0]
        hass.config_entries.async_update_entry(entry, data={**entry.data, "port": port})
        await async_setup_component(hass, "mqtt", {})
    configured = await async_hass_config_yaml(hass)
    if AUTOMATION in configured:
        await async_setup_component(hass, AUTOMATION, configured)
    await hass.async_start()
    assert hass.state is CoreState.running
    say("running", mqtt=str(entry.state))
    return hass


async def main(directory: Path, port: int) -> None:
    warnings = Warnings(logging.WARNING)
    for name in ("homeassistant.components", "homeassistant.helpers", "homeassistant.util"):
        logging.getLogger(name).addHandler(warnings)
    hass = await start(directory, port)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    await hass.async_stop()


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
