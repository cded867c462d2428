"""The embedded broker, a separate process: `python -m edge_agent.demo.broker PORT [WEBSOCKETS_PORT]`.

It ends on SIGTERM, or when its parent ends (standard input is closed).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from amqtt.broker import Broker


async def serve(port: int, websockets: int | None = None) -> None:
    """Serve MQTT on loopback ports until told to stop, the second one over WebSockets; says `ready` on standard output."""
    listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}
    if websockets is not None:
        listeners["websockets"] = {"type": "ws", "bind": f"127.0.0.1:{websockets}"}
    broker = Broker(
        {
            "listeners": listeners,
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is for the demo, which then stops us
    loop.add_reader(sys.stdin, ended.set)
    await broker.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await ended.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(serve(*map(int, sys.argv[1:])))
