/**
 * The same message from a shell, from Python, from a sketch: text to copy.
 *
 * Rules:
 * - Whatever is in a topic or payload stands between quotes of the language, so that it can't end them; the tests run the
 *   snippets, or read them back.
 * - No password is ever in one.
 */

import { JSON_TYPE } from "./payload.js";

/**
 * @typedef {{topic: string, payload: string, contentType: string | null}} Sent content type: where one has to be said
 * @typedef {{host: string, port: number, user: string, tls: boolean}} Broker
 */

/** A word for a POSIX shell. @param {string} text */
export const shell = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** A text as Python writes it, and YAML between double quotes: they know JSON's escapes, and one for larger codes. @param {string} text */
export const python = (text) => hideless(JSON.stringify(text), (code) => (code > 0xffff ? `\\U${hex(code, 8)}` : `\\u${hex(code, 4)}`));
export const yaml = python;

/** A text as C++ writes it: octal, for hexadecimal escapes have no end; no trigraphs. @param {string} text */
export function cpp(text) {
  const bytes = new TextEncoder().encode(text);
  const escaped = Array.from(bytes, (byte) => {
    const one = String.fromCharCode(byte);
    if (one === '"' || one === "\\" || one === "?") return `\\${one}`;
    return byte < 0x20 || byte > 0x7e ? `\\${byte.toString(8).padStart(3, "0")}` : one;
  });
  return `"${escaped.join("")}"`;
}

const hex = (code, length) => code.toString(16).padStart(length, "0");

/** Escape what is not plainly to be seen, and what a language takes for the end of a line. */
function hideless(quoted, escape) {
  return quoted.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, (one) => escape(one.codePointAt(0)));
}

/** @param {Sent[]} messages @param {Broker} broker */
export function mosquittoPub(messages, { host, port, user, tls }) {
  const where = [`-h ${shell(host)}`, port === (tls ? 8883 : 1883) ? "" : `-p ${port}`, tls ? "--tls-use-os-certs" : ""];
  const who = user ? [`-u ${shell(user)}`, '-P "$MQTT_PASSWORD"'] : [];
  return messages
    .map(({ topic, payload, contentType }) => {
      const type = contentType ? [`-V 5 -D publish content-type ${shell(contentType)}`] : [];
      return ["mosquitto_pub", ...where, ...who, "-q 1", ...type, `-t ${shell(topic)}`, `-m ${shell(payload)}`].filter(Boolean).join(" ");
    })
    .join("\n");
}

/** @param {Sent[]} messages @param {Broker} broker */
export function paho(messages, broker) {
  const lines = messages.some(({ contentType }) => contentType) ? pahoClient(messages, broker) : pahoPublish(messages, broker);
  return [...(broker.user ? ["import os", ""] : []), ...lines, ""].join("\n");
}

function pahoPublish(messages, { host, port, user, tls }) {
  const options = [
    `hostname=${python(host)}`,
    `port=${port}`,
    ...(user ? [`auth={"username": ${python(user)}, "password": os.environ["MQTT_PASSWORD"]}`] : []),
    ...(tls ? ["tls={}"] : []),
  ];
  return [
    "import paho.mqtt.publish as publish",
    "",
    "messages = [",
    ...messages.map(({ topic, payload }) => `    {"topic": ${python(topic)}, "payload": ${python(payload)}, "qos": 1},`),
    "]",
    `publish.multiple(messages, ${options.join(", ")})`,
  ];
}

/** publish.multiple() knows no content types. */
function pahoClient(messages, { host, port, user, tls }) {
  return [
    "import paho.mqtt.client as mqtt",
    "from paho.mqtt.packettypes import PacketTypes",
    "from paho.mqtt.properties import Properties",
    "",
    "client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)",
    ...(user ? [`client.username_pw_set(${python(user)}, os.environ["MQTT_PASSWORD"])`] : []),
    ...(tls ? ["client.tls_set()"] : []),
    `client.connect(${python(host)}, ${port})`,
    "client.loop_start()",
    "properties = Properties(PacketTypes.PUBLISH)",
    ...messages.flatMap(({ topic, payload, contentType }) => [
      `properties.ContentType = ${python(contentType ?? JSON_TYPE)}`,
      `client.publish(${python(topic)}, ${python(payload)}, qos=1, properties=properties).wait_for_publish()`,
    ]),
    "client.disconnect()",
    "client.loop_stop()",
  ];
}

/** For the library PubSubClient; what is sent can be taken apart with ArduinoJson. @param {Sent[]} messages @param {Broker} broker */
export function arduino(messages, { host, port, user }) {
  const room = Math.max(...messages.map(({ topic, payload }) => new TextEncoder().encode(topic + payload).length)) + 16;
  const login = user ? `, ${cpp(user)}, MQTT_PASSWORD` : "";
  return [
    "#include <PubSubClient.h>  // and your board's network, as `network`",
    "",
    "PubSubClient client(network);",
    "",
    "void setup() {",
    `  client.setServer(${cpp(host)}, ${port});`,
    `  client.setBufferSize(${room});  // 256 by default: longer messages would not be sent`,
    "}",
    "",
    "void send() {",
    `  if (!client.connected() && !client.connect("sensor-1"${login})) return;`,
    ...messages.map(({ topic, payload }) => `  client.publish(${cpp(topic)}, ${cpp(payload)});`),
    "}",
    "",
  ].join("\n");
}

/** ESPHome would put its substitutions in place of ${…}; JSON has another way to write the sign. */
function withoutSubstitutions(payload) {
  return /^[\[{"]/.test(payload) ? payload.replaceAll("$", "\\u0024") : payload;
}

/** @param {Sent[]} messages @param {Broker} broker */
export function esphome(messages, { host, port, user }) {
  return [
    "mqtt:",
    `  broker: ${yaml(host)}`,
    `  port: ${port}`,
    ...(user ? [`  username: ${yaml(user)}`, "  password: !secret mqtt_password"] : []),
    "",
    "interval:",
    "  - interval: 60s",
    "    then:",
    ...messages.flatMap(({ topic, payload }) => [
      "      - mqtt.publish:",
      `          topic: ${yaml(topic)}`,
      `          payload: ${yaml(withoutSubstitutions(payload))}`,
      "          qos: 1",
    ]),
    "",
  ].join("\n");
}
