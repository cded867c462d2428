/**
 * mqtt.js, the parts for browsers: its own door, `mqtt.connect`, would bring TCP, TLS and SOCKS into the page.
 * build.mjs gives Node's names (Buffer, process, stream) to what is inside.
 */
import client from "mqtt/lib/client";
import { browserStreamBuilder } from "mqtt/lib/connect/ws";

// CommonJS: what a module of ours imports of it by default is all that it exports.
const MqttClient = client.default ?? client;

/** @param {string} url ws:// or wss:// @param {Record<string, any>} options those of mqtt.js */
export function connect(url, options) {
  const { protocol, hostname, port, pathname, search } = new URL(url);
  if (protocol !== "ws:" && protocol !== "wss:") {
    throw new Error(`${url}: a browser reaches a broker by WebSockets: ws://host:port or wss://host:port`);
  }
  const where = { ...options, protocol: protocol.slice(0, -1), hostname, port, path: pathname + search };
  return new MqttClient((/** @type {any} */ one) => browserStreamBuilder(one, where), where);
}
