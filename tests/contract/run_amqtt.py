"""amqtt on one port, until SIGTERM or until whoever started it is gone: `run_amqtt.py HOST PORT [WEBSOCKETS_PORT]`."""

from __future__ import annotations

import asyncio
import signal
import sys

from amqtt.broker import Broker


async def serve(host: str, port: str, websockets: str | None = None) -> None:
    listeners = {"default": {"type": "tcp", "bind": f"{host}:{port}"}}
    if websockets is not None:
        listeners["websockets"] = {"type": "ws", "bind": f"{host}:{websockets}"}
    broker = Broker(
        {
            "listeners": listeners,
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    # The other end of standard input closes with the test run, however that ends.
    loop.add_reader(sys.stdin, ended.set)
    await broker.start()
    await ended.wait()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
