import assert from "node:assert/strict";
import { test } from "node:test";
import { brokerOf } from "../src/address.js";
import { groupsOf, rowsOf } from "../src/asyncapi.js";
import { readDocument } from "../src/document.js";
import { sliderOf } from "../src/form.js";

const wide = (count, value) => Object.fromEntries(Array.from({ length: count }, (_, place) => [`p${place}`, value]));
const schema = (name) => ({ $ref: `#/components/schemas/${name}` });
const own = (more) => readDocument({ "x-edge-agent": { node: "pi-1", ...more } });

test("a schema that refers to itself makes no more rows than a table shows", () => {
  const self = { components: { schemas: { s: { properties: wide(60, schema("s")) } } } };
  // What has itself within is not opened again.
  assert.equal(rowsOf(self, schema("s")).length, 60);
  const schemas = Object.fromEntries(["a", "b", "c", "d", "e", "f"].map((name, place, all) => [name, { properties: wide(60, schema(all[place + 1] ?? "a")) }]));
  assert.equal(rowsOf({ components: { schemas } }, schema("a")).length, 200);
});

test("choices among choices end", () => {
  const choices = (to) => Array.from({ length: 60 }, () => schema(to));
  const schemas = { a: { anyOf: choices("b") }, b: { oneOf: choices("c") }, c: { allOf: choices("d") }, d: { anyOf: choices("a") } };
  assert.deepEqual(rowsOf({ components: { schemas } }, schema("a")), []);
  const [row] = rowsOf({ components: { schemas } }, { properties: { one: schema("a") } });
  assert.deepEqual([row.path, row.type], ["one", ""]);
});

test("all channels together have a limit, and say that they have more", () => {
  const payload = { properties: wide(300, { type: "number" }) };
  const example = { payload: "x".repeat(100_000) };
  const channels = { one: { address: "a/b", messages: wide(30, { payload, examples: [example, example] }) } };
  const operations = wide(5_000, { action: "send", channel: { $ref: "#/channels/one" } });
  const [group] = groupsOf({ channels, operations });
  const messages = group.channels.flatMap(({ messages: all }) => all);
  assert.deepEqual([group.channels.length, group.more, messages[0].rows.length, messages[0].more], [1_000, true, 200, true]);
  assert.ok(messages.reduce((sum, { rows }) => sum + rows.length, 0) <= 20_000);
  assert.ok(messages.flatMap(({ examples }) => examples).join("").length < 3_000_000);
});

test("a feature that may be missing keeps its bounds, unit and meaning", () => {
  const nothing = { description: "No value", enum: [null, "nan"] };
  const speed = { description: "How fast", "x-unit": "m/s", type: ["number", "string"], minimum: 0, maximum: 9 };
  const document = { components: { schemas: { speed, lost: { description: "How far", "x-unit": "m", anyOf: [{ type: "number", minimum: 1 }, nothing] } } } };
  const properties = { speed: { anyOf: [schema("speed"), nothing] }, lost: schema("lost"), both: { anyOf: [schema("lost"), nothing] }, label: { type: ["string", "null"] } };
  const rows = rowsOf(document, { properties }).map(({ type, limits, about }) => [type, limits, about]);
  assert.deepEqual(rows, [
    ["number or string or no value", "0 to 9 m/s", "How fast"],
    ["number or no value", "from 1 m", "How far"],
    ["number or no value", "from 1 m", "How far"],
    ["string or null", "", ""],
  ]);
});

test("more than a page can show is left out, and told", () => {
  const features = Array.from({ length: 20_000 }, (_, place) => ({ name: `f${place}` }));
  const read = own({ models: [{ name: "m", features }] });
  assert.deepEqual([read.models[0].features.length, read.left], [1_000, ["1000 of 20000 features of m"]]);
  const quantiles = Array.from({ length: 200_000 }, (_, place) => [place / 200_000, place]);
  const { models, left } = own({ models: [{ name: "m", features: [{ name: "f", quantiles }] }] });
  assert.equal(sliderOf(models[0].features[0]).marks.length, 32);
  assert.deepEqual(left, ["32 of 200000 quantiles of the feature f"]);
  const values = Array.from({ length: 900 }, (_, place) => `v${place}`);
  const many = own({ models: [{ name: "m", features: Array.from({ length: 100 }, (_, place) => ({ name: `f${place}`, kind: "category", values })) }] });
  assert.equal(many.models[0].features.reduce((sum, one) => sum + one.values.length, 0), 20_000);
  assert.equal(sliderOf({ ...models[0].features[0], quantiles }).high > 199_999, true);
  assert.deepEqual(own({}).left, []);
});

test("a document from a broker does not say where user and password go", () => {
  const said = { "x-edge-agent": {}, servers: { one: { host: "evil.example:1884", protocol: "mqtt" } } };
  const connection = /** @type {any} */ ({ url: "ws://broker.lan:9001/", user: "u" });
  assert.deepEqual(brokerOf(readDocument(said), connection), { host: "broker.lan", port: 1884, user: "u", tls: false });
  assert.equal(brokerOf(readDocument(said, true), connection).host, "evil.example");
  // Nor that they go unencrypted, where the page's do not.
  assert.deepEqual(brokerOf(readDocument(said), { ...connection, url: "wss://broker.lan/" }), { host: "broker.lan", port: 8883, user: "u", tls: true });
});
