/**
 * mqtt.js, the parts for browsers: its own door, `mqtt.connect`, would bring TCP, TLS and SOCKS into the page.
 * build.mjs gives Node's names (Buffer, process, stream) to what is inside.
 */
import MqttClient from "mqtt/lib/client";
import { browserStreamBuilder } from "mqtt/lib/connect/ws";

/** @param {string} url ws:// or wss:// @param {Record<string, any>} options those of mqtt.js */
export function connect(url, options) {
  const { protocol, hostname, port, pathname, search } = new URL(url);
  if (protocol !== "ws:" && protocol !== "wss:") {
    throw new Error(`${url}: a browser reaches a broker by WebSockets: ws://host:port or wss://host:port`);
  }
  const where = { protocol: protocol.slice(0, -1), hostname, port, path: pathname + search };
  return new MqttClient(browserStreamBuilder, { ...options, ...where });
}
