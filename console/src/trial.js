/**
 * One question to the agent and its answer.
 *
 * With MQTT 5 the message names a Response Topic of this page's own: the answer comes to nobody else. With 3.1.1, and on
 * routes that put a row together of several messages, the answer comes on the route's topic, where others read it as well.
 */
import { isOurs } from "./answer.js";
import { JSON_TYPE } from "./payload.js";
import { random } from "./random.js";
import { followState } from "./state.js";
import { captures, fillTemplate, filterOf, responseTopic } from "./topics.js";

const PATIENCE = 10_000;
/** How long nothing more has to come until the last answer to several messages is known to be the last. */
const QUIET = 300;

/**
 * @typedef {import("./document.js").NodeDocument} NodeDocument
 * @typedef {import("./document.js").Route} Route
 * @typedef {{topic: string, payload: string, milliseconds: number, earlier: string[]}} Reply `earlier`: payloads, the latest first
 */

export class Trial {
  #connection;
  /** Of this page, as long as it is open. */
  #id = random(12);
  /** Response topic -> what ends its subscription. */
  #listening = new Map();
  #waiting = new Map();
  /** Ends what an earlier question still listens to. */
  #endLate = () => {};
  /** Why no answer can come now, in words; empty when one can. */
  #lost = "";
  #absent = "";
  /** Told of the above, by who waits. */
  #stops = new Set();

  /** @param {import("./connection.js").Connection} connection */
  constructor(connection) {
    this.#connection = connection;
    // The broker forgets a page that went; whoever asks again subscribes again.
    connection.watch(({ state }) => {
      if (state === "offline") this.#forget();
      this.#lost = state === "online" ? "" : "the connection was lost";
      // A node may come or go while nothing is heard of it; the broker says so anew.
      if (this.#lost) this.#absent = "";
      this.#stop();
    });
  }

  /** Ask this node from now on, which may say that it is offline. Returns what ends it. @param {string} node */
  follow(node) {
    this.#absent = "";
    return followState(this.#connection, node, (said) => {
      this.#absent = said === "offline" ? `${node} is offline` : "";
      this.#stop();
    });
  }

  #stop() {
    const reason = this.#lost || this.#absent;
    if (reason) for (const stop of this.#stops) stop(new Error(reason));
  }

  /** Where answers of a route come: to this page alone, or for all to see. @param {NodeDocument} document @param {Route} route */
  isPrivate(document, route) {
    return this.#ownTopic(document, route) !== null;
  }

  /** What answers are known by on a topic that others use. */
  get id() {
    return `page-${this.#id}`;
  }

  /**
   * Send messages, and wait for the answer to all of them. Raises an Error in words.
   * @param {NodeDocument} document @param {Route} route @param {{topic: string, payload: string, formats: string[]}[]} messages
   * @param {Record<string, string>} levels @param {(reply: Reply) => void} [later] told of answers that come after the last one
   * @returns {Promise<Reply>}
   */
  async ask(document, route, messages, levels, later = () => {}) {
    const topic = this.#ownTopic(document, route);
    let stop = (_) => {};
    const stopped = new Promise((_, reject) => (stop = reject));
    stopped.catch(() => {}); // also where sending failed first
    this.#stops.add(stop);
    this.#stop();
    try {
      return await (topic === null ? this.#askAloud(route, messages, levels, later, stopped) : this.#askPrivately(topic, messages, stopped));
    } finally {
      this.#stops.delete(stop);
    }
  }

  #ownTopic(document, route) {
    if (this.#connection.protocol !== 5 || document.protocol === "3.1.1" || route.remembers) return null;
    return responseTopic(document.responseTopics, this.#id);
  }

  /** Listen to nothing more. */
  close() {
    this.#endLate();
    this.#forget();
  }

  #forget() {
    for (const end of this.#listening.values()) end();
    this.#listening.clear();
  }

  async #askPrivately(responseTopic, messages, stopped) {
    await Promise.race([stopped, this.#listen(responseTopic)]);
    const number = random(8);
    const replied = new Promise((resolve) => this.#waiting.set(number, resolve));
    const sent = performance.now();
    try {
      const correlationData = new TextEncoder().encode(number);
      const published = this.#send(messages, { responseTopic, correlationData });
      const { topic, payload } = await Promise.race([replied, stopped, silence(published)]);
      return { topic, payload: decode(payload), milliseconds: performance.now() - sent, earlier: [] };
    } finally {
      this.#waiting.delete(number);
    }
  }

  async #listen(topic) {
    if (!this.#listening.has(topic)) {
      const end = this.#connection.subscribe(topic, (message) => this.#reply(message), { qos: 1 });
      this.#listening.set(topic, end);
    }
    const end = this.#listening.get(topic);
    try {
      await end.ready;
    } catch (error) {
      this.#listening.delete(topic);
      end();
      throw error;
    }
  }

  #reply(message) {
    const data = message.properties.correlationData;
    this.#waiting.get(data ? decode(data) : "")?.(message);
  }

  async #askAloud(route, messages, levels, later, stopped) {
    this.#endLate();
    const ends = [];
    let sent = 0;
    const told = ([...found]) => {
      const [{ topic, payload, at }, ...earlier] = found.reverse();
      return { topic, payload: decode(payload), milliseconds: at - sent, earlier: earlier.map((one) => decode(one.payload)) };
    };
    const replies = new Replies(messages.length > 1 ? QUIET : 0, (found) => later(told(found)));
    const heard = (message) => {
      if (!message.retain && isOurs(decode(message.payload), this.id)) replies.add(message);
    };
    this.#endLate = () => ends.splice(0).forEach((end) => end());
    try {
      for (const template of new Set([route.publish, route.errors])) {
        const filled = fillTemplate(template, levels);
        const end = this.#connection.subscribe(captures(filled).length ? filterOf(filled) : filled, heard, { qos: 1 });
        ends.push(end);
        await Promise.race([stopped, end.ready]);
      }
      sent = performance.now();
      const published = this.#send(messages, {}).then(() => replies.allSent());
      const reply = told(await Promise.race([replies.settled, stopped, silence(published)]));
      if (messages.length === 1) this.#endLate();
      return reply;
    } catch (error) {
      this.#endLate();
      throw error;
    }
  }

  async #send(messages, properties) {
    for (const { topic, payload, formats, explain } of messages) {
      if (this.#connection.protocol !== 5 && formats[0] !== JSON_TYPE) {
        throw new Error(`${topic} takes ${formats[0]}; JSON can be sent there with MQTT 5 only, and this broker speaks 3.1.1`);
      }
      await this.#connection.publish(topic, payload, { qos: 1, contentType: JSON_TYPE, ...(explain ? { userProperties: { explain } } : {}), ...properties });
    }
  }
}

/** Rejects when sending failed, or some time after it succeeded. */
async function silence(published) {
  await published;
  await new Promise((resolve) => setTimeout(resolve, PATIENCE));
  throw new Error(`no answer within ${PATIENCE / 1000} seconds`);
}

/**
 * The answers to one question. Where each of several messages may be answered, the last answer counts: it has the values of all
 * of them. Which one that is, only quiet tells; one that comes even later is told as well.
 */
class Replies {
  #quiet;
  #later;
  #found = [];
  #sent = false;
  #isSettled = false;
  #timer;
  #done = () => {};
  settled = new Promise((resolve) => (this.#done = resolve));

  constructor(quiet, later) {
    this.#quiet = quiet;
    this.#later = later;
  }
  add(message) {
    this.#found.push({ ...message, at: performance.now() });
    if (this.#isSettled) this.#later(this.#found);
    else this.#wait();
  }
  allSent() {
    this.#sent = true;
    this.#wait();
  }
  #wait() {
    clearTimeout(this.#timer);
    if (this.#sent && this.#found.length) this.#timer = setTimeout(() => this.#settle(), this.#quiet);
  }
  #settle() {
    this.#isSettled = true;
    this.#done(this.#found);
  }
}

const decode = (bytes) => new TextDecoder().decode(bytes);
