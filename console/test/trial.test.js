import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { readDocument } from "../src/document.js";
import { Trial } from "../src/trial.js";
import { matches } from "../src/topics.js";

const bytes = (text) => new TextEncoder().encode(text);

/** In place of a connection; the test is the broker and the agent. */
class FakeConnection {
  filters = new Map();
  published = [];
  refused = "";

  constructor(protocol) {
    this.protocol = protocol;
  }
  watch(listener) {
    this.tell = (state) => listener({ state });
    this.tell("online");
  }
  subscribe(filter, handler) {
    const end = () => this.filters.delete(filter);
    end.ready = filter === this.refused ? Promise.reject(new Error(`${filter}: the broker refused it`)) : Promise.resolve();
    end.ready.catch(() => {});
    this.filters.set(filter, handler);
    return end;
  }
  async publish(topic, payload, options) {
    this.published.push({ topic, payload, options });
  }
  deliver(topic, payload, { retain = false, ...properties } = {}) {
    for (const [filter, handler] of this.filters) if (matches(filter, topic)) handler({ topic, payload: bytes(payload), retain, properties });
  }
}

const DOCUMENT = readDocument({
  "x-edge-agent": {
    node: "n",
    response_topics: ["try/#"],
    models: [{ name: "m", features: [{ name: "a" }, { name: "b" }] }],
    routes: [
      { model: "m", publish: "out/{room}", errors: "err/{room}", sources: [{ subscribe: "in/{room}" }] },
      { model: "m", publish: "out/{room}", errors: "err/{room}", partial: "merge", sources: [{ subscribe: "in/{room}" }] },
    ],
  },
});
const [ROUTE, MERGING] = DOCUMENT.routes;
const message = (topic = "in/x") => ({ topic, payload: "{}", formats: ["application/json"] });
const turn = () => new Promise((resolve) => setImmediate(resolve));

test("with MQTT 5 the answer comes to a topic of the page's own, and an answer to another question is none", async () => {
  const connection = new FakeConnection(5);
  const trial = new Trial(connection);
  const asked = trial.ask(DOCUMENT, ROUTE, [message()], { room: "x" });
  await turn();
  const [{ topic, options }] = connection.published;
  assert.equal(topic, "in/x");
  assert.match(options.responseTopic, /^try\/\w{12}$/);
  assert.deepEqual([...connection.filters.keys()], [options.responseTopic]);
  connection.deliver(options.responseTopic, "other", { correlationData: bytes("other") });
  connection.deliver(options.responseTopic, "ours", { correlationData: options.correlationData });
  const { payload, milliseconds } = await asked;
  assert.equal(payload, "ours");
  assert.ok(milliseconds >= 0);
});

test("a message asks for an explanation by a property of its own", async () => {
  const connection = new FakeConnection(5);
  const asked = new Trial(connection).ask(DOCUMENT, ROUTE, [{ ...message(), explain: "shap" }], { room: "x" });
  await turn();
  const [{ options }] = connection.published;
  assert.deepEqual(options.userProperties, { explain: "shap" });
  connection.deliver(options.responseTopic, "ours", { correlationData: options.correlationData });
  await asked;
});

test("with 3.1.1 it comes on the route's topics; a kept one, and one to somebody else, are not it", async () => {
  const connection = new FakeConnection(4);
  const trial = new Trial(connection);
  assert.equal(trial.isPrivate(DOCUMENT, ROUTE), false);
  const asked = trial.ask(DOCUMENT, ROUTE, [message()], { room: "x" });
  await turn();
  assert.deepEqual([...connection.filters.keys()], ["out/x", "err/x"]);
  connection.deliver("out/x", '{"label": "old"}', { retain: true });
  connection.deliver("out/x", '{"label": "theirs", "id": 7}');
  connection.deliver("err/x", JSON.stringify({ error: "ours", id: trial.id }));
  assert.equal(JSON.parse((await asked).payload).error, "ours");
  assert.equal(connection.filters.size, 0);
});

test("of several messages the last answer counts, and one that comes even later is told", async () => {
  const connection = new FakeConnection(5);
  const later = [];
  const trial = new Trial(connection);
  assert.equal(trial.isPrivate(DOCUMENT, MERGING), false);
  const asked = trial.ask(DOCUMENT, MERGING, [message(), message()], { room: "x" }, (reply) => later.push(reply.payload));
  await turn();
  connection.deliver("out/x", '{"label": "first"}');
  connection.deliver("out/x", '{"label": "second"}');
  const { payload, earlier } = await asked;
  assert.deepEqual([payload, earlier], ['{"label": "second"}', ['{"label": "first"}']]);
  connection.deliver("out/x", '{"label": "third"}');
  assert.deepEqual(later, ['{"label": "third"}']);
  trial.close();
  assert.equal(connection.filters.size, 0);
});

test("silence ends, and is told in words", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  for (const [protocol, route] of [[5, ROUTE], [4, ROUTE], [5, MERGING]]) {
    const connection = new FakeConnection(protocol);
    const asked = assert.rejects(new Trial(connection).ask(DOCUMENT, route, [message()], { room: "x" }), /no answer within 10 seconds/);
    await turn();
    mock.timers.tick(10_000);
    await asked;
  }
  mock.timers.reset();
});

test("a connection that is lost, and a node that goes, end the wait at once", async () => {
  mock.timers.enable({ apis: ["setTimeout"] }); // nothing waits for its end
  for (const [protocol, route] of [[5, ROUTE], [4, ROUTE], [5, MERGING]]) {
    for (const [ends, reason] of [
      [(connection) => connection.tell("connecting"), "the connection was lost"],
      [(connection) => connection.deliver("edge/n/state", "offline"), "n is offline"],
    ]) {
      const connection = new FakeConnection(protocol);
      const trial = new Trial(connection);
      trial.follow("n");
      connection.deliver("edge/n/state", "online");
      const asked = assert.rejects(trial.ask(DOCUMENT, route, [message()], { room: "x" }), new Error(reason));
      await turn();
      assert.equal(connection.published.length, 1);
      ends(connection);
      await asked;
    }
  }
  mock.timers.reset();
});

test("a node that is offline is not asked, until it is back", async () => {
  const connection = new FakeConnection(5);
  const trial = new Trial(connection);
  const end = trial.follow("n");
  connection.deliver("edge/n/state", "offline", { retain: true });
  await assert.rejects(trial.ask(DOCUMENT, ROUTE, [message()], { room: "x" }), new Error("n is offline"));
  assert.deepEqual(connection.published, []);
  connection.deliver("edge/n/state", "online");
  const asked = trial.ask(DOCUMENT, ROUTE, [message()], { room: "x" });
  await turn();
  const [{ options }] = connection.published;
  connection.deliver(options.responseTopic, "ours", { correlationData: options.correlationData });
  assert.equal((await asked).payload, "ours");
  end();
  assert.ok(!connection.filters.has("edge/n/state"));
  assert.doesNotThrow(trial.follow("a/#")); // what no topic may have is followed nowhere
});

test("a right that is missing is told, and asked for again the next time", async () => {
  const connection = new FakeConnection(4);
  connection.refused = "err/x";
  const trial = new Trial(connection);
  for (let time = 0; time < 2; time++) {
    await assert.rejects(trial.ask(DOCUMENT, ROUTE, [message()], { room: "x" }), /err\/x: the broker refused it/);
    assert.equal(connection.filters.size, 0);
  }
});

test("where JSON can't be told by its content type it is not sent", async () => {
  const connection = new FakeConnection(4);
  const packed = { ...message(), formats: ["application/octet-stream", "application/json"] };
  await assert.rejects(new Trial(connection).ask(DOCUMENT, ROUTE, [packed], { room: "x" }), /takes application\/octet-stream; JSON can be sent there with MQTT 5 only/);
  assert.deepEqual(connection.published, []);
});
