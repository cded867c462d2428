// aedes on two ports, MQTT and MQTT over WebSockets, until SIGTERM or until whoever started it is gone:
// `run_aedes.mjs NODE_MODULES HOST PORT WEBSOCKETS_PORT`.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createServer as createTcpServer } from "node:net";

const [modules, host, port, websockets] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Aedes } = require("aedes");
const { WebSocketServer, createWebSocketStream } = require("ws");

const broker = await Aedes.createBroker();
createTcpServer(broker.handle).listen(Number(port), host);
const pages = createServer();
new WebSocketServer({ server: pages }).on("connection", (socket, request) =>
  broker.handle(createWebSocketStream(socket), request),
);
pages.listen(Number(websockets), host);

// The other end of standard input closes with the test run, however that ends.
for (const event of ["end", "close", "error"]) process.stdin.on(event, () => process.exit(0));
process.stdin.resume();
process.on("SIGTERM", () => process.exit(0));
