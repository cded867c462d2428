import assert from "node:assert/strict";
import { test } from "node:test";
import { Store, warnings } from "../../src/live/store.js";
import { words } from "../../src/live/versions.js";

const encode = (content) => new TextEncoder().encode(typeof content === "string" ? content : JSON.stringify(content));
const INFO = {
  node: "pi-1",
  agent: "1.2.0",
  state: "online",
  reason: null,
  models: [{ name: "genre", version: "1.0.0", task: "classification" }],
  routes: [{ model: "genre", subscribe: "music/{sensor}/features", publish: "music/{sensor}/genre", errors: "music/{sensor}/genre/error" }],
};
const ROCK = { label: "Rock", confidence: 0.97, probabilities: { Rock: 0.97, "Hip-Hop": 0.03 }, model: "genre", version: "1.0.0" };

function taken(store, topic, content, more = {}) {
  store.take({ topic, payload: encode(content), now: 1_000_000, ...more });
  return store.learn();
}

function known(bounds) {
  const store = new Store(bounds);
  taken(store, "edge/pi-1/info", INFO);
  return store;
}

const only = (store) => {
  assert.equal(store.sensors.size, 1);
  return store.sensors.values().next().value;
};

test("a node tells its models, and whose answers to subscribe to", () => {
  const store = new Store();
  assert.equal(taken(store, "edge/pi-1/state", "online"), false);
  assert.equal(taken(store, "edge/pi-1/info", INFO), true);
  assert.equal(taken(store, "edge/pi-1/info", INFO), false);
  assert.deepEqual([...store.filters], ["music/+/genre", "music/+/genre/error"]);
  const node = store.nodes.get("pi-1");
  assert.deepEqual([node.state, node.agent, node.models[0].name], ["online", "1.2.0", "genre"]);
});

test("a sensor has its latest label, and the reason of its latest rejection until it is answered again", () => {
  const store = known();
  taken(store, "music/kitchen/genre", ROCK);
  const sensor = only(store);
  assert.deepEqual([sensor.name, sensor.label, sensor.confidence, sensor.model], ["kitchen", "Rock", 0.97, "genre"]);
  taken(store, "music/kitchen/genre/error", { error: "invalid_features", detail: [{ type: "missing", loc: ["tempo"], msg: "is missing", input: {} }, {}] });
  assert.deepEqual([sensor.label, sensor.rejections], ["Rock", 1]);
  assert.deepEqual(warnings(sensor), [{ kind: "rejected", words: "tempo: is missing (and 1 more)" }]);
  taken(store, "music/kitchen/genre", ROCK);
  assert.deepEqual(warnings(only(store)), []);
});

test("uncertain, outside, anomalies, numbers and batches", () => {
  const store = known();
  taken(store, "music/a/genre", { ...ROCK, label: null, uncertain: true, outside: ["tempo"] });
  assert.deepEqual(warnings(store.sensors.values().next().value).map((one) => one.kind), ["uncertain", "outside"]);
  taken(store, "music/b/genre", { value: 21.7, unit: "°C", model: "degrees", version: "1" });
  taken(store, "music/c/genre", { values: { a: 1, b: 2 }, model: "two", version: "1" });
  taken(store, "music/d/genre", [ROCK, { error: "invalid_features", detail: [] }, { ...ROCK, label: "Hip-Hop" }]);
  taken(store, "music/e/genre", { label: "anomaly", score: 0.61, model: "odd", version: "1" });
  const [, b, c, d, e] = [...store.sensors.values()];
  assert.deepEqual([b.value, b.unit], [21.7, "°C"]);
  assert.deepEqual(c.values, [["a", 1], ["b", 2]]);
  assert.deepEqual([d.label, d.count, d.rejections], ["Hip-Hop", 3, 1]);
  assert.deepEqual([e.label, e.score], ["anomaly", 0.61]);
});

test("a confidence that is none is not known, in JSON and SenML; an anomaly is a warning", () => {
  const store = known();
  for (const confidence of [2, -0.1, "high"]) {
    taken(store, "music/a/genre", { ...ROCK, confidence });
    taken(store, "music/b/genre", [{ n: "label", vs: "Rock" }, { n: "confidence", v: confidence }, { n: "model", vs: "genre" }]);
    for (const sensor of store.sensors.values()) assert.equal(sensor.confidence, undefined);
  }
  assert.ok([...store.trends.values()].every((trend) => trend.series(1_001_000, 2).confidence.every((one) => one === null)));
  taken(store, "music/c/genre", { label: "anomaly", score: 0.61, model: "pump" });
  assert.deepEqual(warnings([...store.sensors.values()].at(-1)), [{ kind: "anomaly", words: "score 0.61" }]);
});

test("a label has the color of its place in its model's labels, whatever came first", () => {
  const labels = ["Hip-Hop", "Rock", "Jazz"];
  const colors = (order) => {
    const store = new Store();
    taken(store, "edge/pi-1/info", { ...INFO, models: [{ ...INFO.models[0], labels }] });
    for (const label of order) taken(store, "music/kitchen/genre", { ...ROCK, label });
    const trend = store.trends.get("genre");
    return Object.fromEntries(trend.labels.map((label, place) => [label, trend.colors[place]]));
  };
  assert.deepEqual(colors(["Rock", "Hip-Hop", "Jazz"]), { "Hip-Hop": 0, "Rock": 1, "Jazz": 2 });
  assert.deepEqual(colors(["Jazz", "Rock", "Hip-Hop"]), { "Hip-Hop": 0, "Rock": 1, "Jazz": 2 });
  assert.deepEqual(colors(["unheard of", "Rock"])["Rock"], 1);
});

test("an answer in SenML is read, of one row or several", () => {
  const store = known();
  const pack = [
    { n: "label", vs: "Rock" }, { n: "confidence", v: 0.9 }, { n: "probability/Rock", v: 0.9 }, { n: "model", vs: "genre" }, { n: "version", vs: "1" },
    { n: "uncertain", vb: true }, { n: "confidence", v: 0.5 }, { n: "model", vs: "genre" }, { n: "version", vs: "1" },
  ];
  taken(store, "music/a/genre", pack, { contentType: "application/senml+json" });
  const sensor = only(store);
  assert.deepEqual([sensor.count, sensor.label, sensor.uncertain, sensor.confidence], [2, null, true, 0.5]);
});

test("what can't be read is said, and ends nothing", () => {
  const store = known();
  for (const content of ["", "no JSON", "[[[", "null", "7", "[1]", '{"label": {}}', '{"label": 7}', new Uint8Array(300_000)]) {
    store.take({ topic: "music/a/genre", payload: typeof content === "string" ? encode(content) : content, now: 1 });
  }
  assert.match(only(store).unread, /KiB, too long to show$/);
  for (const topic of ["edge/x/info", "edge/x/health"]) {
    for (const content of ["", "{", "[]", "null", { models: 7, routes: [7, { publish: 7 }] }, { latency_ms: 3, rejections: [] }]) taken(store, topic, content);
  }
  assert.equal(store.nodes.get("x").models.length, 0);
});

test("topics of a hostile node that would cost the connection are left out", () => {
  const store = new Store();
  const routes = ["", "#", "a/#", "+/b", "$SYS/{a}", "a/b{c}", `a/\0`, "x".repeat(2000)].map((publish) => ({ model: "m", publish, errors: `${publish}/error` }));
  taken(store, "edge/bad/info", { ...INFO, routes });
  assert.deepEqual([...store.filters], []);
});

test("a topic that is too long is nobody's", () => {
  const store = known();
  taken(store, `music/${"a".repeat(5000)}/genre`, ROCK);
  taken(store, `edge/${"a".repeat(5000)}/state`, "online");
  assert.deepEqual([store.sensors.size, store.nodes.size, store.unread], [0, 1, 2]);
});

test("names of properties are names like others", () => {
  const store = known();
  taken(store, "edge/__proto__/info", { ...INFO, node: "__proto__" });
  taken(store, "music/__proto__/genre", { ...ROCK, label: "__proto__", model: "constructor" });
  assert.equal(store.nodes.get("__proto__").agent, "1.2.0");
  assert.equal(only(store).label, "__proto__");
  assert.deepEqual(store.trends.get("constructor").labels, ["__proto__"]);
  assert.equal({}.agent, undefined);
});

test("nodes, routes and sensors are bounded, and what is left out is counted", () => {
  const store = known({ nodes: 2, sensors: 3, routes: 2, quiet: 1000 });
  for (const id of ["b", "c", "d"]) taken(store, `edge/${id}/info`, { ...INFO, routes: [1, 2, 3].map((one) => ({ model: "m", publish: `${id}/${one}/{s}`, errors: `${id}/${one}/{s}/error` })) });
  assert.deepEqual([store.nodes.size, store.left.nodes], [2, 2]);
  assert.deepEqual([store.routes.size, store.left.routes], [2, 2]);
  for (const name of "abcd") taken(store, `music/${name}/genre`, ROCK);
  assert.deepEqual([store.sensors.size, store.left.sensors], [3, 1]);
  // One that was quiet for long makes room; `a` was heard again.
  taken(store, "music/a/genre", ROCK, { now: 1_001_500 });
  taken(store, "music/d/genre", ROCK, { now: 1_001_500 });
  assert.deepEqual([...store.sensors.values()].map((one) => one.name).sort(), ["a", "c", "d"]);
});

test("a node that was taken back is forgotten with its routes", () => {
  const store = known();
  taken(store, "edge/pi-1/state", "offline");
  assert.equal(store.nodes.get("pi-1").state, "offline");
  assert.equal(taken(store, "edge/pi-1/state", ""), true);
  assert.deepEqual([store.nodes.size, store.filters.size], [0, 0]);
});

test("answers of the same topics belong to all nodes that share the route, and rejections to the same sensor", () => {
  const store = known();
  taken(store, "edge/pi-2/info", { ...INFO, node: "pi-2" });
  assert.deepEqual(store.routes.get("music/{sensor}/genre").nodes, ["pi-1", "pi-2"]);
});

test("a route that captures several levels does not take its rejections for answers", () => {
  const store = new Store();
  taken(store, "edge/z/info", { ...INFO, routes: [{ model: "m", publish: "out/{device...}", errors: "out/{device...}/error" }] });
  assert.deepEqual([...store.filters], ["out/#"]);
  taken(store, "out/a/b", ROCK);
  taken(store, "out/a/b/error", { error: "invalid_features", detail: [] });
  assert.deepEqual([only(store).name, only(store).rejections], ["a/b", 1]);
});

test("a retained answer is the latest, and no point in time", () => {
  const store = known();
  taken(store, "music/a/genre", ROCK, { retain: true });
  assert.deepEqual([only(store).retained, only(store).history.length, store.trends.size], [true, 0, 0]);
});

test("versions of models, an update that waits for a person, and what is no version", () => {
  const store = known();
  const said = { installed_version: "1.0.0", latest_version: "1.1.0", state: "verified", in_progress: false, title: "genre", reason: null };
  taken(store, "edge/pi-1/model/genre", said);
  const { versions } = store.nodes.get("pi-1");
  assert.equal(versions.get("genre").waits, true);
  assert.equal(words(versions.get("genre")), "1.1.0 is here and verified");
  taken(store, "edge/pi-1/model/genre", { ...said, in_progress: true });
  assert.equal(versions.get("genre").waits, false);
  taken(store, "edge/pi-1/model/genre", { ...said, state: "canary", compared: { agreement: 0.982, compared: 1200 } });
  assert.equal(versions.get("genre").compared, "98.2 % of 1,200 answers are the same");
  taken(store, "edge/pi-1/model/genre", { ...said, state: "idle", latest_version: "1.0.0" });
  assert.equal(words(versions.get("genre")), "");
  taken(store, "edge/pi-1/model/odd", { installed_version: 7 });
  assert.deepEqual([...versions.keys()], ["genre"]);
  taken(store, "edge/pi-1/response/install", { installing: [], reason: "no update waits" });
  assert.deepEqual(store.nodes.get("pi-1").asked, { answers: 1, reason: "no update waits" });
  taken(store, "edge/pi-1/model/genre", "");
  assert.equal(versions.size, 0);
});

test("what has drifted is told in the words of the node, until it is over", () => {
  const store = known();
  const how = "higher than in training: 62 % above its 95 % quantile";
  const column = { name: "tempo", drifted: true, psi: 2.3, how };
  const model = { name: "genre", features: [column, { ...column, name: "energy", drifted: false }], answers: "no list" };
  taken(store, "edge/pi-1/drift", { state: "drifted", models: [model, "nothing", { name: 7 }] });
  assert.deepEqual(store.nodes.get("pi-1").drift, [{ model: "genre", how: `tempo: ${how}` }]);
  taken(store, "edge/pi-1/drift", { state: "drifted", models: [{ name: "genre", features: Array(90).fill(column) }] });
  assert.equal(store.nodes.get("pi-1").drift.length, 5);
  taken(store, "edge/pi-1/drift", { models: 3 });
  assert.deepEqual(store.nodes.get("pi-1").drift, []);
  taken(store, "edge/pi-1/drift", { models: [model] });
  taken(store, "edge/pi-1/drift", "");
  assert.deepEqual(store.nodes.get("pi-1").drift, []);
});
