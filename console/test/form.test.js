import assert from "node:assert/strict";
import { test } from "node:test";
import { isOurs, readAnswer, readAnswers } from "../src/answer.js";
import { offered, brokerOf } from "../src/address.js";
import { groupsOf, resolve, rowsOf } from "../src/asyncapi.js";
import { readDocument } from "../src/document.js";
import { boundsInWords, short, sliderOf, startOf } from "../src/form.js";

const LEVELS = [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1];
const feature = (more) => ({ name: "f", kind: "number", minimum: null, maximum: null, unit: "", description: "", quantiles: [], values: [], missing: false, example: undefined, ...more });
const seen = (...values) => LEVELS.map((level, place) => [level, values[place]]);

test("a slider goes from bound to bound, and has the quantiles in their places", () => {
  const { low, high, marks, median, usual } = sliderOf(feature({ minimum: 0, maximum: 10, quantiles: seen(0, 1, 2, 3, 5, 6, 7, 8, 10) }));
  assert.deepEqual([low, high, median, usual], [0, 10, 5, [0.3, 0.6]]);
  assert.deepEqual(marks.map(({ at }) => at), [0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 1]);
});

test("bounds that are far from all that training saw do not make a slider useless", () => {
  const { low, high } = sliderOf(feature({ minimum: 0, maximum: 1e9, quantiles: seen(10, 10, 11, 12, 15, 17, 19, 20, 20) }));
  assert.deepEqual([low, high], [5, 25]);
});

test("a slider has a length, whatever the card says", () => {
  for (const more of [{}, { minimum: 5 }, { maximum: -5 }, { minimum: 3, maximum: 3 }, { quantiles: seen(7, 7, 7, 7, 7, 7, 7, 7, 7) }, { example: 1e300 }]) {
    const { low, high, step } = sliderOf(feature(more));
    assert.ok(high > low && step > 0, JSON.stringify(more));
  }
});

test("a form begins with the example of the card", () => {
  assert.equal(startOf(feature({ example: 101.993, quantiles: seen(0, 1, 2, 3, 5, 6, 7, 8, 200) })), 101.99);
  assert.equal(startOf(feature({ kind: "boolean", example: true })), true);
  assert.equal(startOf(feature({ kind: "boolean", example: "yes" })), true);
  assert.equal(startOf(feature({ kind: "category", values: ["a", "b"], example: "b" })), "b");
  assert.equal(startOf(feature({ kind: "category", values: ["a"], example: "gone" })), "a");
});

test("numbers and bounds in words", () => {
  assert.deepEqual([short(-1.5), short(1234567), short(0.1 + 0.2), short(0)], ["\u22121.5", "1230000", "0.3", "0"]);
  assert.equal(boundsInWords(feature({ minimum: 0, maximum: 1000, unit: "BPM" })), "0 to 1000 BPM");
  assert.equal(boundsInWords(feature({ kind: "category", values: ["a"] })), "1 choice");
});

const MODEL = readDocument({ "x-edge-agent": { models: [{ name: "m", features: [{ name: "tempo" }, { name: "<b>" }], outputs: [{ name: "indoor", unit: "°C" }] }] } }).models[0];

test("the reasons of a rejection go to the fields that they are about", () => {
  const detail = [
    { type: "x", loc: ["tempo"], msg: "too small", input: -5 },
    { type: "x", loc: ["tempo"], msg: "no number" },
    { type: "x", loc: ["other"], msg: "unknown" },
    "words",
    null,
    { loc: "tempo" },
  ];
  const read = readAnswer(JSON.stringify({ error: "invalid_features", detail }), MODEL);
  assert.equal(read.kind, "rejection");
  assert.deepEqual([...read.byFeature], [["tempo", ["too small", "no number"]]]);
  assert.deepEqual(read.others, ["other: unknown", "words", "rejected"]);
  assert.equal(readAnswer('{"error": "toString"}', MODEL).title, "toString");
});

test("of several messages the last answer counts, or all reasons since the last one that was none", () => {
  const rejected = (name) => JSON.stringify({ error: "invalid_features", detail: [{ loc: [name], msg: `bad ${name}` }] });
  assert.equal(readAnswers(['{"label": "x"}', rejected("tempo")], MODEL).title, "x");
  const read = readAnswers([rejected("tempo"), rejected("<b>"), '{"label": "old"}', rejected("tempo")], MODEL);
  assert.deepEqual([...read.byFeature], [["tempo", ["bad tempo"]], ["<b>", ["bad <b>"]]]);
});

test("answers of all kinds", () => {
  const label = readAnswer('{"label": "<b>", "confidence": 0.9, "probabilities": {"<b>": 0.9, "x": 0.1}, "model": "m", "version": "1", "outside": ["tempo"]}', MODEL);
  assert.deepEqual(label.bars.map(({ label: name, chosen }) => [name, chosen]), [["<b>", true], ["x", false]]);
  assert.deepEqual([label.title, label.outside], ["<b>", ["tempo"]]);
  assert.deepEqual(readAnswer('{"value": 21.7}', MODEL).unit, "°C");
  assert.deepEqual(readAnswer('{"values": {"indoor": 21.7, "power": 3}}', MODEL).values.map(({ unit }) => unit), ["°C", ""]);
  assert.equal(readAnswer('{"label": "anomaly", "score": 0.61}', MODEL).score, 0.61);
  assert.equal(readAnswer('{"label": null, "uncertain": true, "confidence": 0.5}', MODEL).title, "uncertain");
  const uncertain = '{"label": null, "uncertain": true, "confidence": 0.523456789}';
  assert.equal(readAnswer(uncertain, MODEL, 0.6).note, "confidence 52.3 %, below this route's limit of 60 % (min_confidence)");
  assert.equal(readAnswer(uncertain, MODEL, null).note, "confidence 52.3 %, below this route's limit (min_confidence)");
  // Never rounded up to the limit that it is below.
  assert.match(readAnswer('{"label": null, "uncertain": true, "confidence": 0.59999}', MODEL, 0.6).note, /^confidence 59.9 %, /);
  assert.match(readAnswer('{"label": null, "uncertain": true, "confidence": 2}', MODEL, 0.6).note, /^a confidence below this route's limit of 60 %/);
  for (const odd of ["", "[1]", "5", "{}", "null"]) assert.equal(readAnswer(odd, MODEL).kind, "unknown");
});

test("why an answer is what it is", () => {
  const why = (explanation) => readAnswer(JSON.stringify({ label: "Rock", explanation }), MODEL).why;
  assert.equal(why(undefined), null);
  assert.equal(why("no"), null);
  const path = why({ method: "path", conditions: ["tempo > 100 BPM"], nearest: { feature: "tempo", condition: "tempo <= 100 BPM", change: -4, label: "Hip-Hop" } });
  assert.deepEqual([path.because, path.otherwise], [["tempo > 100 BPM"], "It would be Hip-Hop with tempo <= 100 BPM"]);
  assert.equal(why({ method: "path", conditions: [], nearest: null }).otherwise, "No single feature would change that");
  const shap = why({ method: "shap", of: "Rock", scale: "probability", base: 0.8, output: 0.9, values: { tempo: 0.2, "<b>": -0.1, x: "?" } });
  assert.equal(shap.sum, "probability of Rock: 0.8 on average in training, 0.9 here");
  assert.deepEqual(shap.shares.map(({ name, value, share, against }) => [name, value, share, against]), [["tempo", "+0.2", 1, false], ["<b>", "-0.1", 0.5, true]]);
  assert.equal(why({ method: "none", reason: "no trees" }).otherwise, "Not explained: no trees");
  assert.equal(why({ method: "path", conditions: Array(5000).fill("x"), nearest: 7 }).because.length, 100);
});

test("an answer that carries another id is somebody else's", () => {
  assert.ok(isOurs('{"id": "page-1"}', "page-1") && isOurs("{}", "page-1") && isOurs("no JSON", "page-1"));
  assert.ok(!isOurs('{"id": 17}', "page-1"));
});

test("a document from anybody is read, or refused in words", () => {
  for (const odd of [null, 5, "x", [], {}, { "x-edge-agent": null }]) assert.throws(() => readDocument(odd), /not a document/);
  const odd = readDocument({ servers: 5, "x-edge-agent": { node: 7, models: [null, { name: "m", features: [5, { name: "f", quantiles: [["a"], [0, 1]] }] }], routes: "x", response_topics: [1, "a"] } });
  assert.deepEqual([odd.node, odd.routes, odd.responseTopics, odd.models.length], ["?", [], ["a"], 1]);
  assert.deepEqual(odd.models[0].features[0].quantiles, [[0, 1]]);
});

test("a schema that refers to itself ends, and a reference to nowhere is nothing", () => {
  const loop = { components: { schemas: { a: { properties: { inner: { $ref: "#/components/schemas/a" } } }, b: { $ref: "#/components/schemas/b" } } } };
  assert.ok(rowsOf(loop, { $ref: "#/components/schemas/a" }).length < 10);
  assert.deepEqual(rowsOf(loop, { $ref: "#/components/schemas/b" }), []);
  assert.deepEqual(resolve(loop, { $ref: "#/constructor/prototype" }), {});
  assert.deepEqual(resolve(loop, { $ref: "https://example.org/x" }), {});
  assert.deepEqual(groupsOf({ operations: { x: null, y: { channel: { $ref: "#/%" } } } }), []);
});

test("the address of the broker that is offered", () => {
  const at = (protocol, host, hash = "") => ({ protocol, host, hash });
  assert.equal(offered(at("http:", "pi.lan:9001"), null), "ws://pi.lan:9001/");
  assert.equal(offered(at("https:", "pi.lan"), null), "wss://pi.lan/");
  assert.equal(offered(at("file:", "", "#broker=ws%3A//127.0.0.1:8080"), null), "ws://127.0.0.1:8080");
  assert.equal(offered(at("file:", "", "#broker=javascript:alert(1)"), null), "ws://localhost:9001/");
  assert.equal(offered(at("file:", "", "#broker=%"), null), "ws://localhost:9001/");
  const document = readDocument({ servers: { broker: { host: "broker.lan:1883", protocol: "mqtt" } }, "x-edge-agent": {} }, true);
  assert.equal(offered(at("file:", ""), document), "ws://broker.lan:9001/");
  assert.deepEqual(brokerOf(document, { url: "", user: "u" }), { host: "broker.lan", port: 1883, user: "u", tls: false });
});

test("a number has the digits that somebody reads, and an anomaly an alarm", () => {
  assert.equal(readAnswer('{"value": 21.712345678}', MODEL).title, "21.7123");
  assert.equal(readAnswer('{"value": 1e-7}', MODEL).title, "1e-7");
  assert.equal(readAnswer('{"value": 12345678.9}', MODEL).title, "12345700");
  assert.deepEqual(readAnswer('{"values": {"indoor": 21.712345678, "power": "odd"}}', MODEL).values.map(({ value }) => value), ["21.7123", "odd"]);
  const alarmOf = (label, task) => readAnswer(JSON.stringify({ label, score: 0.6 }), { ...MODEL, task }).alarm;
  assert.deepEqual([alarmOf("anomaly", "anomaly"), alarmOf("normal", "anomaly"), alarmOf("anomaly", "classification")], [true, false, false]);
});
