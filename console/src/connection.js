/**
 * The connection to the broker: MQTT over WebSockets, version 5 where the broker speaks it, else 3.1.1.
 *
 * Rules:
 * - Password and user live in this object and nowhere else: not in storage, not in the address of the page, not in a log.
 * - Subscriptions are kept here and made again on each connection, so that who subscribes need not know of them.
 * - A handler that throws is reported, and does not keep the message from the others.
 */
import { random } from "./random.js";
import { matches } from "./topics.js";

/** What a broker answers to a version that it does not speak (3.1.1: 1; 5: 0x84). */
const WRONG_VERSION = new Set([1, 0x84]);
/** What a broker answers to a wrong login, or to none (3.1.1: 4, 5); Mosquitto answers 0x87 to both with MQTT 5. */
const NO_LOGIN = new Set([4, 5, 0x86, 0x87, 0x8c]);
/** What it answers to a message or a subscription without the right to it (3.1.1: 0x80, which may mean more). */
const NO_RIGHT = new Set([0x80, 0x87]);
const REFUSALS = new Map([
  [1, "the broker speaks neither MQTT 5 nor 3.1.1"],
  [2, "the broker refused the client id of this page"],
  [3, "the broker is not available"],
  [0x84, "the broker speaks neither MQTT 5 nor 3.1.1"],
  [0x85, "the broker refused the client id of this page"],
  [0x88, "the broker is not available"],
  [0x89, "the broker is busy"],
  [0x8a, "the broker has banned this client"],
  [0x95, "too large a message for the broker"],
  [0x97, "the broker's quota is used up"],
  [0x9f, "too many connections are made to the broker"],
]);
/** What mqtt.js says to all that waits when a connection ends. */
const ENDED = /connection closed|client disconnect/i;
const CONNECT_SECONDS = 8;
const LONGEST_PAUSE = 30_000;

/**
 * @typedef {{topic: string, payload: Uint8Array, qos: number, retain: boolean, properties: Record<string, any>}} Message
 * @typedef {"offline" | "connecting" | "online"} State
 * @typedef {{state: State, reason: string, protocol: 5 | 4 | null, url: string}} Status
 */

export class Connection {
  /** @type {State} */ state = "offline";
  /** Why it is offline, in words; empty when nothing went wrong. */
  reason = "";
  /** 5 or 4 (which is MQTT 3.1.1), null before the first connection. @type {5 | 4 | null} */
  protocol = null;
  url = "";

  #dial;
  #client = null;
  /** What the broker grants: whether it knows Subscription Identifiers, and its highest QoS. */
  #grants = { identifiers: false, qos: 1 };
  #login = { username: "", password: "" };
  #listeners = new Set();
  /** filter -> {id, qos, handlers} */
  #subscriptions = new Map();
  #nextId = 1;
  #attempt = 0;
  #timer = 0;

  /** @param {(url: string, options: Record<string, any>) => any} dial gives a client of mqtt.js */
  constructor(dial) {
    this.#dial = dial;
  }

  get user() {
    return this.#login.username;
  }

  /** @returns {Status} */
  get status() {
    const { state, reason, protocol, url } = this;
    return { state, reason, protocol, url };
  }

  /** Be told of each change of state, and of the present one at once. Returns what ends it. @param {(status: Status) => void} listener */
  watch(listener) {
    this.#listeners.add(listener);
    listener(this.status);
    return () => this.#listeners.delete(listener);
  }

  /** Connect, and stay connected until `close`. @param {string} url ws:// or wss:// @param {{username?: string, password?: string}} [login] */
  open(url, { username = "", password = "" } = {}) {
    this.close();
    this.#login = { username, password };
    this.url = url;
    this.protocol = null;
    this.#attempt = 0;
    this.#connect(5);
  }

  close() {
    clearTimeout(this.#timer);
    this.#drop();
    this.#tell("offline", "");
  }

  /**
   * Receive what a filter takes; retained messages come at once. Returns what ends it.
   * @param {string} filter @param {(message: Message) => void} handler @param {{qos?: 0 | 1}} [options]
   */
  subscribe(filter, handler, { qos = 0 } = {}) {
    let subscription = this.#subscriptions.get(filter);
    if (!subscription) {
      subscription = { id: this.#nextId++, qos, handlers: new Set(), refused: "" };
      this.#subscriptions.set(filter, subscription);
    }
    subscription.qos = Math.max(subscription.qos, qos);
    subscription.handlers.add(handler);
    const ready = this.state === "online" ? this.#ask(filter, subscription) : Promise.resolve();
    const end = () => {
      subscription.handlers.delete(handler);
      if (subscription.handlers.size || this.#subscriptions.get(filter) !== subscription) return;
      this.#subscriptions.delete(filter);
      if (this.state === "online") this.#client.unsubscribe(filter, () => {});
    };
    /** Settles when the broker granted it; rejects with the reason when it refused. */
    end.ready = ready;
    ready.catch(() => {}); // whoever wants to know waits for `ready`
    return end;
  }

  /**
   * @param {string} topic @param {string | Uint8Array} payload
   * @param {{qos?: 0 | 1, responseTopic?: string, correlationData?: Uint8Array, contentType?: string}} [options] the last three with MQTT 5 only
   * @returns {Promise<void>} settled when the broker has it; rejects with the reason
   */
  publish(topic, payload, { qos = 1, ...properties } = {}) {
    if (this.state !== "online") return Promise.reject(new Error("not connected to a broker"));
    const options = { qos: Math.min(qos, this.#grants.qos), ...(this.protocol === 5 ? { properties } : {}) };
    const content = typeof payload === "string" ? payload : /** @type {any} */ (payload);
    return new Promise((resolve, reject) => {
      this.#client.publish(topic, content, options, (error) => (error ? reject(this.#refusal(error, "publish on", topic)) : resolve()));
    });
  }

  #tell(state, reason) {
    this.state = state;
    this.reason = reason;
    for (const listener of [...this.#listeners]) guarded(() => listener(this.status));
  }

  /** End the present client, of which nothing is heard any more. */
  #drop() {
    const client = this.#client;
    this.#client = null;
    if (!client) return;
    client.removeAllListeners();
    client.on("error", () => {}); // it may still fail while it goes
    client.end(true);
  }

  #connect(version) {
    this.#tell("connecting", this.reason);
    let client;
    try {
      client = this.#dial(this.url, {
        ...(this.#login.username ? this.#login : {}),
        clean: true,
        clientId: `page-${random(8)}`,
        connectTimeout: CONNECT_SECONDS * 1000,
        keepalive: 30,
        protocolVersion: version,
        reconnectPeriod: 0,
        resubscribe: false,
        timerVariant: "native", // the other one is a worker, which the page's policy forbids
      });
    } catch (error) {
      this.#tell("offline", String(error?.message ?? error));
      return;
    }
    this.#client = client;
    let accepted = false;
    let failure = null;
    client.on("connect", ({ properties = {} }) => {
      accepted = true;
      this.#grants = { identifiers: version === 5 && properties.subscriptionIdentifiersAvailable !== false, qos: properties.maximumQoS ?? 1 };
      this.#attempt = 0;
      this.protocol = version;
      // Before anybody is told, so that what is sent then is answered to a subscription.
      for (const [filter, subscription] of this.#subscriptions) this.#ask(filter, subscription).catch(() => {});
      this.#tell("online", "");
    });
    client.on("message", (topic, payload, packet) => this.#deliver(topic, payload, packet));
    client.on("error", (error) => (failure = error));
    client.on("close", () => {
      if (this.#client !== client) return;
      this.#drop();
      if (accepted) this.#again(version, "the connection was lost");
      // Some brokers of 3.1.1 end the connection instead of naming what they dislike.
      else if (version === 5 && this.protocol !== 5 && (!failure || WRONG_VERSION.has(failure.code))) this.#connect(4);
      else if (failure?.code) this.#tell("offline", this.#whyNotConnected(failure));
      else if (this.protocol) this.#again(this.protocol, unreachable(this.url));
      else this.#tell("offline", unreachable(this.url));
    });
  }

  #again(version, reason) {
    this.#tell("connecting", reason);
    this.#timer = setTimeout(() => this.#connect(version), Math.min(LONGEST_PAUSE, 1000 * 2 ** this.#attempt++));
  }

  #ask(filter, subscription) {
    const { qos, id } = subscription;
    const properties = this.#grants.identifiers ? { properties: { subscriptionIdentifier: id } } : {};
    return new Promise((resolve, reject) => {
      this.#client.subscribe(filter, { qos, ...properties }, (error, granted) => {
        const code = granted?.find((one) => one.qos >= 0x80)?.qos;
        if (error || code) reject(this.#refusal(error ?? { code }, "subscribe to", filter));
        else resolve();
      });
    });
  }

  /** Why the broker did not let this page in. */
  #whyNotConnected({ code, message }) {
    if (NO_LOGIN.has(code)) return this.#login.username ? "the broker refused this user and password" : "the broker asks for a user and password";
    return REFUSALS.get(code) ?? message;
  }

  /** Why the broker did not take a message or a subscription. @param {any} error @param {string} verb @param {string} topic @returns {Error} */
  #refusal({ code, message }, verb, topic) {
    if (NO_RIGHT.has(code)) return new Error(`${this.#login.username ? "this user" : "a client without a user"} may not ${verb} ${topic}`);
    if (!code && ENDED.test(message)) return new Error("the connection was lost");
    return new Error(`${topic}: ${REFUSALS.get(code) ?? message ?? "the broker refused it"}`);
  }

  #deliver(topic, payload, packet) {
    const properties = packet.properties ?? {};
    const ids = new Set([properties.subscriptionIdentifier ?? []].flat());
    const message = { topic, payload, qos: packet.qos, retain: packet.retain, properties };
    for (const [filter, { id, handlers }] of [...this.#subscriptions]) {
      // Mosquitto sends a message once for each subscription with MQTT 5; the identifier says for which.
      if (ids.size ? !ids.has(id) : !matches(filter, topic)) continue;
      for (const handler of [...handlers]) guarded(() => handler(message));
    }
  }
}

function guarded(call) {
  try {
    call();
  } catch (error) {
    console.error(error);
  }
}

function unreachable(url) {
  const mixed = globalThis.location?.protocol === "https:" && url.startsWith("ws:");
  return mixed
    ? "a page that came by https may only connect by wss://"
    : // Without the query, which may hold a token.
      `no MQTT broker answers at ${url.split("?")[0]}; is it a listener for WebSockets?`;
}
