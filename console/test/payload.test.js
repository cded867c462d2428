import assert from "node:assert/strict";
import { test } from "node:test";
import { readDocument } from "../src/document.js";
import { levelsOf, messagesOf, put, stepsOf, toJson, typedValue, unconverted } from "../src/payload.js";
import { alsoTaking, captures, fillTemplate, filterOf, levelError, matches, responseTopic } from "../src/topics.js";

/** A route for a model of temperature and humidity. */
function route(sources, more = {}) {
  const features = [{ name: "temperature", kind: "number" }, { name: "humidity", kind: "number" }];
  const document = {
    "x-edge-agent": { node: "n", models: [{ name: "comfort", features }], routes: [{ model: "comfort", publish: "comfort/{room}", sources, ...more }] },
  };
  return readDocument(document).routes[0];
}

const sent = (one, values, levels, id) => messagesOf(one, values, levels, id).map(({ topic, payload }) => [topic, payload]);

test("what is typed is a number if JSON could have it, otherwise a text that the agent may judge", () => {
  assert.deepEqual(["1.5", " -2e3 ", ".5", "+7"].map(typedValue), [1.5, -2000, 0.5, 7]);
  assert.deepEqual(["loud", "1_000", "0x10", "1e999", "NaN"].map(typedValue), ["loud", "1_000", "0x10", "1e999", "NaN"]);
  assert.deepEqual([typedValue(""), typedValue("null")], [undefined, null]);
});

test("features stand where the configuration looks for them", () => {
  const one = route([{ subscribe: "tele/{room}/SENSOR", fields: { temperature: "AM2301.Temperature", humidity: { at: "AM2301.Humidity", scale: 0.1 } } }]);
  assert.deepEqual(sent(one, { temperature: 21.5, humidity: 48.1 }, { room: "bath" }), [
    ["tele/bath/SENSOR", '{"AM2301": {"Temperature": 21.5, "Humidity": 481}}'],
  ]);
  assert.deepEqual(sent(one, { temperature: "warm", humidity: undefined }, { room: "bath" }), [
    ["tele/bath/SENSOR", '{"AM2301": {"Temperature": "warm"}}'],
  ]);
});

test("places are keys, positions, selectors and the whole payload", () => {
  assert.equal(toJson(put(undefined, ["a", "1", "b"], 1)), '{"a": [null, {"b": 1}]}');
  assert.equal(toJson(put(undefined, ["m", "name=t", "value"], 1)), '{"m": [{"name": "t", "value": 1}]}');
  const both = put(put(undefined, ["m", "name=t", "value"], 1), ["m", "name=h", "value"], 2);
  assert.equal(toJson(both), '{"m": [{"name": "t", "value": 1}, {"name": "h", "value": 2}]}');
  assert.equal(put(undefined, [], 5), 5);
  assert.deepEqual(stepsOf(["dht.h"], "x"), ["dht.h"]);
  assert.deepEqual(stepsOf({ map: {} }, "window"), ["window"]);
});

test("no path takes the page apart", () => {
  assert.equal(toJson(put(undefined, ["__proto__", "polluted"], 1)), '{"__proto__": {"polluted": 1}}');
  assert.equal({}.polluted, undefined);
  assert.equal(toJson(put(undefined, ["999999999"], 1)), '{"999999999": 1}');
  assert.equal(toJson(put(put(undefined, ["a"], 1), ["a", "b"], 2)), '{"a": {"b": 2}}');
});

test("a feature's own name is a key, whatever is in it", () => {
  const features = ["0", "a=b", "a.b", "__proto__"].map((name) => ({ name }));
  const document = { "x-edge-agent": { models: [{ name: "m", features }], routes: [{ model: "m", publish: "out", sources: [{ subscribe: "in" }] }] } };
  const values = JSON.parse('{"0": 1, "a=b": 2, "a.b": 3, "__proto__": 4}');
  assert.deepEqual(sent(readDocument(document).routes[0], values, {}), [["in", '{"0": 1, "a=b": 2, "a.b": 3, "__proto__": 4}']]);
});

test("a conversion is undone", () => {
  assert.equal(unconverted({ scale: 0.1, offset: -40 }, 20.3), 603);
  assert.equal(unconverted({ map: { OPEN: 1, CLOSED: 0 } }, 0), "CLOSED");
  assert.equal(unconverted({ map: { OPEN: 1 } }, 5), 5);
  assert.equal(unconverted("a.b", 5), 5);
});

test("a value for each topic, where a level names it", () => {
  const one = route([{ subscribe: "home/{room}/{feature}", form: "feature", fields: { temperature: "temp", humidity: ["dht", "h"] } }]);
  assert.deepEqual(sent(one, { temperature: 21.5, humidity: 48 }, { room: "bath" }), [
    ["home/bath/temp", "21.5"],
    ["home/bath/dht", '{"h": 48}'],
  ]);
  assert.deepEqual(levelsOf(one), [{ name: "room", fixed: null }]);
  assert.deepEqual(sent(one, { temperature: "off" }, { room: "bath" }), [["home/bath/temp", "off"]]);
});

test("each source has its own features, and a sensor that the configuration names", () => {
  const one = route([
    { subscribe: "tele/{room}/SENSOR", fields: { temperature: "t" } },
    { subscribe: "em/power", sensor: { room: "kitchen" }, fields: { humidity: [] } },
  ]);
  assert.deepEqual(levelsOf(one), [{ name: "room", fixed: "kitchen" }]);
  assert.deepEqual(sent(one, { temperature: 1, humidity: 2 }, { room: "kitchen" }), [["tele/kitchen/SENSOR", '{"t": 1}'], ["em/power", "2"]]);
  assert.equal(one.remembers, true);
});

test("names in the payload, and an id where others read the answer", () => {
  const one = route([{ subscribe: "rtl", capture: { id: ["id"], model: ["dev", "model"] } }]);
  assert.deepEqual(sent(one, { temperature: 1 }, { id: "7", model: "x" }), [["rtl", '{"temperature": 1, "id": "7", "dev": {"model": "x"}}']]);
  const named = route([{ subscribe: "a", fields: { id: "meta.id" } }]);
  assert.deepEqual(sent(named, { temperature: 1 }, {}, "page-1"), [["a", '{"temperature": 1, "meta": {"id": "page-1"}}']]);
});

test("JSON hides nothing", () => {
  assert.equal(toJson({ "a\u202e": "\ufeff\ud800 {\n}" }), String.raw`{"a\u202e": "\ufeff\ud800 {\n}"}`);
  assert.deepEqual(JSON.parse(toJson({ a: ["{", "}", " x"], b: {} })), { a: ["{", "}", " x"], b: {} });
});

test("templates are filled, and matched", () => {
  assert.deepEqual(captures("a/{b}/{c...}"), ["b", "c"]);
  assert.equal(fillTemplate("a/{b}/{c...}", { b: "$&", c: "x/y" }), "a/$&/x/y");
  assert.equal(fillTemplate("a/{constructor}", {}), "a/{constructor}");
  assert.equal(filterOf("a/{b}/{c...}"), "a/+/#");
  assert.ok(matches("a/+/#", "a/b") && matches("a/+/#", "a/b/c/d") && matches("#", "a"));
  assert.ok(!matches("a/+", "a/b/c") && !matches("#", "$SYS/x") && !matches("a", "a/"));
});

test("levels that a topic can't have are told before anything is sent", () => {
  assert.equal(levelError("kitchen"), "");
  for (const wrong of ["", "a/b", "+", "#", "a\u0000"]) assert.notEqual(levelError(wrong), "");
  assert.equal(levelError("a/b", true), "");
  assert.notEqual(levelError("a//b", true), "");
});

test("a Response Topic is one that the node follows", () => {
  assert.equal(responseTopic(["+/response/#", "try/#"], "x"), "try/x");
  assert.equal(responseTopic(["+/response/#"], "x"), "page-x/response/try");
  assert.equal(responseTopic(["lab/answers/#"], "x"), "lab/answers/x");
  assert.equal(responseTopic(["only/this"], "x"), null);
  assert.equal(responseTopic([], "x"), null);
});

test("other nodes that take the same topic are found, and no others", () => {
  const node = (name, ...subscribe) => ({ node: name, routes: [{ sources: subscribe.map((one) => ({ subscribe: one })) }] });
  const documents = [node("a", "music/{sensor}/features"), node("b", "other/x", "music/{room}/features"), node("c", "music/{sensor}/x"), node("d", "{all...}")];
  assert.deepEqual(alsoTaking(documents, "a", ["music/try/features"]), ["b", "d"]);
  assert.deepEqual(alsoTaking(documents, "a", []), []);
});
