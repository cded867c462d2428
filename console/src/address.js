/** Addresses of brokers: what to offer in the connect box, and what a device would connect to. */

/** Mosquitto's habit, and that of docs/console.md. */
const WEB_PORT = 9001;

/**
 * What to offer as the broker's address.
 * @param {{protocol: string, host: string, hash: string}} location of the page
 * @param {import("./document.js").NodeDocument | null} document
 */
export function offered(location, document) {
  const told = new URLSearchParams(location.hash.slice(1)).get("broker");
  if (told && /^wss?:\/\/./.test(told)) return told;
  // A page from a web server is most often served by the broker itself (Mosquitto's http_dir).
  if (location.protocol === "http:") return `ws://${location.host}/`;
  if (location.protocol === "https:") return `wss://${location.host}/`;
  const { host = "", protocol = "" } = document?.broker ?? {};
  if (/^wss?$/.test(protocol)) return `${protocol}://${host}/`;
  return `ws://${nameOf(host) || "localhost"}:${WEB_PORT}/`;
}

/** Whether an address leads to this very machine. @param {string} url */
export function isLoopback(url) {
  try {
    return ["localhost", "127.0.0.1", "[::1]"].includes(new URL(url).hostname);
  } catch {
    return false;
  }
}

/** The host without its port; IPv6 keeps its brackets. @param {string} host */
const nameOf = (host) => host.replace(/:\d+$/, "");

/**
 * The broker as devices reach it. The page's own document says where: what the node itself connects to, unless that is a place
 * only it can see. One that came from a broker does not: with a user and a password, anybody's host could get them.
 * @param {import("./document.js").NodeDocument} document @param {import("./connection.js").Connection} connection
 * @returns {import("./snippets.js").Broker}
 */
export function brokerOf(document, connection) {
  const { host, protocol } = document.broker;
  const tls = ["mqtts", "secure-mqtt", "wss"].includes(protocol) || (!document.isEmbedded && connection.url.startsWith("wss:"));
  const isPlain = protocol === "mqtt" && tls;
  const port = /^(?:mqtts?|secure-mqtt)$/.test(protocol) && !isPlain ? Number(/:(\d+)$/.exec(host)?.[1] ?? 0) : 0;
  let name = document.isEmbedded ? nameOf(host) : "";
  if (!name || isLoopback(`ws://${name}`)) {
    try {
      name = new URL(connection.url).hostname || name;
    } catch {
      // not connected yet
    }
  }
  return { host: (name || "localhost").replace(/^\[|\]$/g, ""), port: port || (tls ? 8883 : 1883), user: connection.user, tls };
}
