import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { arduino, cpp, esphome, mosquittoPub, paho, python, shell } from "../src/snippets.js";

const BROKER = { host: "broker.lan", port: 1883, user: "", tls: false };
const HOSTILE = [
  "plain",
  "it's",
  "a\"b\\c",
  "$(reboot)`reboot`${HOME}",
  "line\nbreak\r\ttab",
  "</script><img src=x onerror=alert(1)>",
  "??/ ??= trigraph?",
  "\u202edesrever\u2066",
  "\u2028\u2029\u0085",
  "°C µ 🎵 \u{e0001}",
  "-m",
  "%s %n {0} #{x} !lambda",
  "1\u00012",
  "",
];

test("a shell gives back each word as it was", () => {
  for (const text of HOSTILE) {
    assert.equal(execFileSync("sh", ["-c", `printf %s ${shell(text)}`], { encoding: "utf8" }), text);
  }
});

test("the command has its topic and its payload as words, whatever is in them", () => {
  for (const text of HOSTILE) {
    const command = mosquittoPub([{ topic: `t/${text}`, payload: JSON.stringify({ [text]: text }), contentType: null }], BROKER);
    const said = execFileSync("sh", ["-c", `mosquitto_pub() { printf '%s\\0' "$@"; }; ${command}`], { encoding: "utf8" });
    assert.deepEqual(said.split("\0").slice(0, -1), ["-h", "broker.lan", "-q", "1", "-t", `t/${text}`, "-m", JSON.stringify({ [text]: text })]);
  }
});

test("a password stands in no snippet", () => {
  const broker = { host: "b", port: 8883, user: "o'neil", tls: true };
  const sent = [{ topic: "t", payload: "{}", contentType: "application/json" }];
  assert.match(mosquittoPub(sent, broker), /-u 'o'\\''neil' -P "\$MQTT_PASSWORD"/);
  assert.match(paho(sent, broker), /os\.environ\["MQTT_PASSWORD"\]/);
  assert.match(arduino(sent, broker), /"o'neil", MQTT_PASSWORD/);
  assert.match(esphome(sent, broker), /password: !secret mqtt_password/);
});

test("what can't be seen is escaped where a language has a way", () => {
  assert.equal(python("a\u202e\u2028b"), String.raw`"a\u202e\u2028b"`);
  assert.equal(python("\u{e0001}"), String.raw`"\U000e0001"`);
  assert.equal(cpp("°?\u0001\"\\"), String.raw`"\302\260\?\001\"\\"`);
});

/** Read a C++ text back. */
function compiled(literal) {
  const bytes = [];
  for (const [, octal, other, plain] of literal.slice(1, -1).matchAll(/\\([0-7]{3})|\\(.)|(.)/gs)) {
    bytes.push(octal ? parseInt(octal, 8) : (other ?? plain).charCodeAt(0));
  }
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

test("a sketch has each text on one line, between its own quotes, and room for it", () => {
  for (const text of HOSTILE) {
    assert.match(cpp(text), /^"(?:[^"\\\n]|\\.)*"$/);
    assert.equal(compiled(cpp(text)), text);
  }
  const long = arduino([{ topic: "t", payload: "x".repeat(1000), contentType: null }], BROKER);
  assert.match(long, /setBufferSize\(1017\)/);
});

test("ESPHome has no substitution to make in a payload", () => {
  const made = esphome([{ topic: "t", payload: '{"a": "${x}"}', contentType: null }], BROKER);
  assert.match(made, /payload: "\{\\"a\\": \\"\\\\u0024\{x\}\\"\}"/);
});
