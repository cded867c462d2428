import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { mock, test } from "node:test";
import { Connection } from "../src/connection.js";

/** In place of a client of mqtt.js; the test is the broker. */
class FakeClient extends EventEmitter {
  subscribed = [];
  unsubscribed = [];
  published = [];
  ended = false;
  refuses = new Set();
  silent = false;
  pending = [];

  constructor(options) {
    super();
    this.options = options;
  }
  subscribe(filter, options, done) {
    this.subscribed.push([filter, options.properties?.subscriptionIdentifier ?? null]);
    if (this.silent) this.pending.push(done);
    else done(null, [{ topic: filter, qos: this.refuses.has(filter) ? 0x87 : options.qos }]);
  }
  unsubscribe(filter) {
    this.unsubscribed.push(filter);
  }
  publish(topic, payload, options, done) {
    this.published.push([topic, payload, options]);
    if (!this.silent) done(this.refuses.has(topic) ? Object.assign(new Error("Publish error"), { code: 0x87 }) : null);
    else this.pending.push(done);
  }
  /** As mqtt.js does: what waits for the broker fails. */
  end() {
    this.ended = true;
    for (const done of this.pending.splice(0)) done(new Error("Connection closed"));
  }
  accept(properties = {}) {
    this.emit("connect", { properties });
  }
  deliver(topic, ids) {
    this.emit("message", topic, new Uint8Array(), { qos: 0, retain: false, properties: { subscriptionIdentifier: ids } });
  }
  /** End it, as mqtt.js does: an error, if there is one, and then the end. */
  lose(code) {
    if (code !== undefined) this.emit("error", Object.assign(new Error("refused"), { code }));
    this.emit("close");
  }
}

function dialed(login = { username: "me", password: "s3cret" }) {
  const clients = [];
  const connection = new Connection((_, options) => {
    clients.push(new FakeClient(options));
    return clients.at(-1);
  });
  connection.open("ws://broker?token=hush", login);
  return { clients, connection };
}

test("3.1.1 is tried where 5 is refused, or the connection ends without a word", () => {
  for (const code of [1, 0x84, undefined]) {
    const { clients, connection } = dialed();
    clients[0].lose(code);
    assert.deepEqual(clients.map(({ options }) => options.protocolVersion), [5, 4]);
    clients[1].accept();
    assert.deepEqual([connection.state, connection.protocol], ["online", 4]);
    connection.close();
  }
});

test("a refused login is told by what it lacks, and not tried again", () => {
  // 5: 0x86, 0x87 (which Mosquitto answers to a wrong password), 0x8c; 3.1.1: 4, 5.
  for (const code of [0x86, 0x87, 0x8c, 4, 5]) {
    for (const [login, reason] of [[{ username: "me", password: "wrong" }, "the broker refused this user and password"], [{}, "the broker asks for a user and password"]]) {
      const { clients, connection } = dialed(login);
      clients[0].lose(code);
      assert.deepEqual([clients.length, connection.state, connection.reason], [1, "offline", reason]);
    }
  }
});

test("other refusals of a connection are told in words", () => {
  for (const [code, reason] of [[0x8a, /banned/], [0x88, /not available/], [0x89, /busy/], [0x85, /client id/], [0x97, /quota/], [0x9f, /too many connections/]]) {
    const { clients, connection } = dialed();
    clients[0].lose(code);
    assert.match(connection.reason, reason);
  }
  const { clients, connection } = dialed();
  clients[0].lose(0x84);
  clients[1].lose(1);
  assert.match(connection.reason, /neither MQTT 5 nor 3\.1\.1/);
});

test("who can't be reached is named, with a guess", () => {
  const { clients, connection } = dialed();
  clients[0].lose();
  clients[1].lose();
  assert.equal(connection.state, "offline");
  assert.match(connection.reason, /ws:\/\/broker; is it a listener for WebSockets/);
});

test("a lost connection is made again, with the version and the subscriptions that it had", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { clients, connection } = dialed();
  clients[0].accept();
  connection.subscribe("a/+", () => {});
  clients[0].lose();
  assert.equal(connection.state, "connecting");
  mock.timers.tick(1000);
  clients[1].lose();
  mock.timers.tick(1999);
  assert.equal(clients.length, 2);
  mock.timers.tick(1);
  clients[2].accept();
  assert.deepEqual([clients[2].options.protocolVersion, clients[2].subscribed], [5, [["a/+", 1]]]);
  clients[2].lose();
  connection.close();
  mock.timers.tick(60_000);
  assert.equal(clients.length, 3);
  mock.timers.reset();
});

test("each handler has each message once, whatever overlaps", () => {
  const { clients, connection } = dialed();
  const heard = [];
  clients[0].accept();
  const ends = ["a/b", "a/+", "#"].map((filter) => connection.subscribe(filter, () => heard.push(filter)));
  // Mosquitto: once for each subscription. Others: once for all.
  for (const id of [1, 2, 3]) clients[0].deliver("a/b", id);
  assert.deepEqual(heard.splice(0), ["a/b", "a/+", "#"]);
  clients[0].deliver("a/b", [1, 3]);
  assert.deepEqual(heard.splice(0), ["a/b", "#"]);
  clients[0].deliver("a/b");
  assert.deepEqual(heard.splice(0), ["a/b", "a/+", "#"]);
  ends[0]();
  assert.deepEqual(clients[0].unsubscribed, ["a/b"]);
});

test("a handler that throws keeps the message from nobody", () => {
  const { clients, connection } = dialed();
  const heard = [];
  clients[0].accept();
  const complained = mock.method(console, "error", () => {});
  connection.subscribe("a", () => { throw new Error("mine"); });
  connection.subscribe("a", () => heard.push("a"));
  clients[0].deliver("a");
  assert.deepEqual([heard, complained.mock.callCount()], [["a"], 1]);
  complained.mock.restore();
});

test("what the broker does not grant is not asked for", async () => {
  const { clients, connection } = dialed();
  clients[0].accept({ subscriptionIdentifiersAvailable: false, maximumQoS: 0 });
  connection.subscribe("a", () => {});
  await connection.publish("a", "x", { qos: 1, responseTopic: "r" });
  assert.deepEqual(clients[0].subscribed, [["a", null]]);
  assert.deepEqual(clients[0].published, [["a", "x", { qos: 0, properties: { responseTopic: "r" } }]]);
});

test("a right that is missing is told with its topic", async () => {
  for (const [login, who] of [[undefined, "this user"], [{}, "a client without a user"]]) {
    const { clients, connection } = dialed(login);
    clients[0].refuses.add("secret");
    clients[0].accept();
    await assert.rejects(connection.subscribe("secret", () => {}).ready, new Error(`${who} may not subscribe to secret`));
    await assert.rejects(connection.publish("secret", "x"), new Error(`${who} may not publish on secret`));
  }
});

test("what waits for the broker when the connection ends is told in words", async () => {
  const { clients, connection } = dialed();
  clients[0].accept();
  clients[0].silent = true;
  const waiting = [connection.subscribe("a", () => {}).ready, connection.publish("a", "x")];
  clients[0].lose();
  for (const one of waiting) await assert.rejects(one, new Error("the connection was lost"));
  connection.close();
});

test("3.1.1 has no properties, and nothing is sent while there is no connection", async () => {
  const { clients, connection } = dialed();
  await assert.rejects(connection.publish("a", "x"), /not connected/);
  clients[0].lose(1);
  clients[1].accept();
  await connection.publish("a", "x", { responseTopic: "r" });
  assert.deepEqual(clients[1].published, [["a", "x", { qos: 1 }]]);
});

test("the password is in nothing that is told", () => {
  const { clients, connection } = dialed();
  clients[0].accept();
  assert.equal(clients[0].options.password, "s3cret");
  assert.doesNotMatch(JSON.stringify([connection, connection.status, Object.entries(connection)]), /s3cret/);
});
