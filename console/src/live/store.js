// What the live view knows: nodes, routes, sensors and trends. No DOM, no MQTT client, no clock of its own.
//
// Rules:
// * everything is bounded, and what a bound leaves out is counted, so that the page can say it;
// * names from the wire are keys of Maps only, never of objects, and texts are cut where they are read;
// * what nodes tell of themselves is never a sample; answers may be one, and each counts for the `weight` it has;
// * routes are made from all nodes together, by `learn`, and not with each message.

import { STATES } from "../state.js";
import { Template } from "../topics.js";
import { amount } from "../words.js";
import { json, number, object, rows, text } from "./answers.js";
import { readDrift } from "./drift.js";
import { History, Trend } from "./history.js";
import { Rate } from "./rates.js";
import { readVersions } from "./versions.js";

const BOUNDS = { nodes: 500, routes: 200, models: 50, sensors: 1000, topics: 20000, quiet: 60_000 };
/** Most bytes of what a node says of itself: hundreds of routes and models. */
const MOST_OWN_BYTES = 1024 * 1024;
/** Topics that are longer are nobody's: a name that is to be read has a few dozen letters. */
const LONGEST_TOPIC = 2000;
const MOST_LABELS = 200;
/** What every node says of itself. */
export const OWN = ["edge/+/state", "edge/+/info", "edge/+/health", "edge/+/drift", "edge/+/model/+", "edge/+/response/install"];

export class Store {
  constructor(bounds = {}) {
    this.bounds = { ...BOUNDS, ...bounds };
    this.nodes = new Map();
    this.routes = new Map();
    this.sensors = new Map();
    this.trends = new Map();
    this.rate = new Rate();
    //: What the bounds left out.
    this.left = { nodes: 0, routes: 0, models: 0, sensors: 0 };
    this.unread = 0;
    this._topics = new Map();
    //: model -> its labels, in the model's order
    this._labels = new Map();
    this._stale = false;
  }

  /** Whether a topic is one of a node's own: those are never sampled. */
  static isOwn(topic) {
    return /^edge\/[^/]+\/(state|info|health|drift|model\/[^/]+|response\/install)$/.test(topic);
  }

  /** Take a message: `{topic, payload, now, retain, contentType, weight}`. */
  take(message) {
    if (message.topic.length > LONGEST_TOPIC) this.unread += message.weight ?? 1;
    else if (Store.isOwn(message.topic)) this._takeOwn(message);
    else this._takeAnswer(message);
  }

  /** The filters of answers and rejections of all nodes. */
  get filters() {
    const filters = new Set();
    for (const route of this.routes.values()) {
      filters.add(route.answers.filter);
      filters.add(route.errors.filter);
    }
    return filters;
  }

  /** Nothing is heard from now on until the next answer: that is no silence of the sensors. */
  pause() {
    for (const trend of this.trends.values()) trend.pause();
  }

  /** Forget what was seen, as on another broker. */
  clear() {
    for (const one of [this.nodes, this.routes, this.sensors, this.trends, this._topics, this._labels]) one.clear();
    this.left = { nodes: 0, routes: 0, models: 0, sensors: 0 };
    this.unread = 0;
    this.rate = new Rate();
  }

  _takeOwn({ topic, payload, now }) {
    const [, id, kind, name] = topic.split("/");
    if (payload.length === 0) {
      // A retained message taken back: the node is gone for good, or a model is.
      if (kind === "state" && this.nodes.delete(id)) this._stale = true;
      if (kind === "model") this.nodes.get(id)?.versions.delete(name);
      const taken = kind === "drift" ? this.nodes.get(id) : undefined;
      if (taken !== undefined) taken.drift = [];
      return;
    }
    let node = this.nodes.get(id);
    if (node === undefined) {
      if (this.nodes.size >= this.bounds.nodes) {
        this.left.nodes += 1;
        return;
      }
      node = { id: text(id), state: undefined, since: now, reason: undefined, agent: undefined, models: [], routes: [], health: undefined, versions: new Map(), drift: [], asked: { answers: 0 } };
      this.nodes.set(id, node);
    }
    if (kind === "state") {
      const said = new TextDecoder().decode(payload.slice(0, 40));
      const state = STATES.has(said) ? said : text(said, 20);
      if (state !== node.state) {
        node.changed = node.state !== undefined;
        node.since = now;
      }
      node.state = state;
      return;
    }
    const content = payload.length > MOST_OWN_BYTES ? undefined : object(json(payload));
    if (content === undefined) return;
    if (kind === "health") {
      node.health = health(content);
      return;
    }
    if (kind === "drift") {
      node.drift = readDrift(content);
      return;
    }
    if (kind === "model") {
      const versions = readVersions(content);
      if (versions !== undefined && (node.versions.has(name) || node.versions.size < this.bounds.models)) node.versions.set(name, versions);
      return;
    }
    if (kind === "response") {
      node.asked = { answers: node.asked.answers + 1, reason: text(content.reason) };
      return;
    }
    node.agent = text(content.agent, 40);
    node.reason = text(content.reason);
    node.models = list(content.models)
      .slice(0, this.bounds.models)
      .map((model) => ({ name: text(model.name), version: text(model.version, 40), task: text(model.task, 40), labels: texts(model.labels) }));
    node.routes = list(content.routes)
      .filter((route) => typeof route.publish === "string" && typeof route.errors === "string")
      .map((route) => ({ model: text(route.model), publish: route.publish, errors: route.errors }));
    this._stale = true;
  }

  /** Make the routes anew from all nodes, if one has told something new; returns whether other topics are wanted now. */
  learn() {
    if (!this._stale) return false;
    this._stale = false;
    const before = [...this.filters].sort().join("\n");
    const routes = new Map();
    this.left.routes = 0;
    for (const node of this.nodes.values()) {
      for (const { model, publish, errors } of node.routes) {
        let route = routes.get(publish);
        if (route === undefined) {
          if (routes.size >= this.bounds.routes) {
            this.left.routes += 1;
            continue;
          }
          const made = { model, answers: new Template(publish), errors: new Template(errors), nodes: [] };
          if (!made.answers.sound || !made.errors.sound) continue;
          route = made;
          routes.set(publish, route);
        }
        if (!route.nodes.includes(node.id)) route.nodes.push(node.id);
      }
    }
    this.routes = routes;
    this._labels = new Map();
    // Of two versions of a model, those of the later one.
    for (const { models } of this.nodes.values()) for (const { name, labels } of models) if (labels.length > 0) this._labels.set(name, labels);
    for (const [model, trend] of this.trends) trend.known = this._labels.get(model) ?? trend.known;
    this._topics.clear();
    return [...this.filters].sort().join("\n") !== before;
  }

  /** What a topic belongs to: `{route, captured, rejected}`, or null. */
  _find(topic) {
    let found = this._topics.get(topic);
    if (found !== undefined) return found;
    found = null;
    for (const route of this.routes.values()) {
      // Rejections first: where several levels are captured, the answers' template takes their topics too.
      const rejected = route.errors.match(topic);
      const captured = rejected ?? route.answers.match(topic);
      if (captured !== null) {
        found = { route, captured, rejected: rejected !== null };
        if (found.rejected) break;
      }
    }
    if (this._topics.size >= this.bounds.topics) this._topics.clear();
    this._topics.set(topic, found);
    return found;
  }

  _takeAnswer({ topic, payload, now, retain, contentType, weight = 1 }) {
    const found = this._find(topic);
    if (found === null) return;
    const read = rows(payload, contentType);
    for (const row of read) {
      if (row.unread !== undefined) this.unread += weight;
      this._takeRow(found, topic, row, now, retain, weight);
    }
  }

  _takeRow({ route, captured }, topic, row, now, retain, weight) {
    const model = row.model ?? route.model ?? "";
    const answered = row.unread === undefined && row.error === undefined;
    const measured = row.confidence ?? row.score;
    // Also for sensors that are too many for the table; what a broker had kept is of no known time.
    const trend = answered && !retain ? this._trend(model) : undefined;
    trend?.add(now, row.label, row.value, measured, weight);
    const whole = captured.length > 0 ? captured.join("/") : (row.sensor ?? topic);
    const sensor = this._sensor(route, whole, model, now);
    if (sensor === undefined) return;
    sensor.at = now;
    sensor.retained = retain === true;
    sensor.count += weight;
    if (row.unread !== undefined) {
      sensor.unread = row.unread;
      return;
    }
    sensor.unread = undefined;
    if (row.error !== undefined) {
      sensor.rejections += weight;
      sensor.rejected = { error: row.error, reason: row.reason ?? "" };
      return;
    }
    sensor.rejected = undefined;
    for (const key of ["label", "value", "values", "unit", "score", "confidence", "uncertain", "outside"]) sensor[key] = row[key];
    if (retain) return;
    const value = row.label === undefined ? row.value : (trend?.place(row.label) ?? 0);
    sensor.history.add(now, value ?? NaN, measured);
  }

  _sensor(route, whole, model, now) {
    const key = `${route.answers.text}\0${whole}`;
    const name = text(whole);
    let sensor = this.sensors.get(key);
    if (sensor !== undefined) {
      sensor.model = model;
      // The Map keeps them in the order in which they were heard: the first one is the quietest.
      this.sensors.delete(key);
      this.sensors.set(key, sensor);
      return sensor;
    }
    if (this.sensors.size >= this.bounds.sensors) {
      const [quiet, oldest] = this.sensors.entries().next().value;
      this.left.sensors += 1;
      if (now - oldest.at < this.bounds.quiet) return undefined;
      this.sensors.delete(quiet);
    }
    sensor = { key, name, model, at: now, count: 0, rejections: 0, outside: [], uncertain: false, history: new History() };
    this.sensors.set(key, sensor);
    return sensor;
  }

  _trend(model) {
    let trend = this.trends.get(model);
    if (trend === undefined) {
      if (this.trends.size >= this.bounds.models) {
        this.left.models += 1;
        return undefined;
      }
      trend = new Trend();
      trend.known = this._labels.get(model) ?? trend.known;
      this.trends.set(model, trend);
    }
    return trend;
  }
}

/** The names in a list; a model may have a thousand labels, of which the first are told apart by colors. */
function texts(value) {
  return Array.isArray(value) ? value.slice(0, MOST_LABELS).map((one) => text(one) ?? "") : [];
}

function list(value) {
  return Array.isArray(value) ? value.map(object).filter((one) => one !== undefined) : [];
}

/** The figures of a health message that are shown, with the sum of its rejections. */
function health(content) {
  const rejections = Object.values(object(content.rejections) ?? {}).filter((one) => number(one) !== undefined);
  const latency = object(content.latency_ms) ?? {};
  return {
    rejections: rejections.reduce((sum, one) => sum + one, 0),
    outside: number(content.outside),
    uncertain: number(content.uncertain),
    rate: number(content.messages_per_second),
    p50: number(latency.p50),
    p99: number(latency.p99),
  };
}

/** What is to be marked of a sensor, in words, the gravest first. */
export function warnings(sensor) {
  const found = [];
  if (sensor.unread !== undefined) found.push({ kind: "unread", words: sensor.unread });
  if (sensor.rejected !== undefined) found.push({ kind: "rejected", words: sensor.rejected.reason || sensor.rejected.error });
  // Only a detector of anomalies gives a score.
  if (sensor.rejected === undefined && sensor.label === "anomaly" && sensor.score !== undefined) found.push({ kind: "anomaly", words: `score ${amount(sensor.score)}` });
  if (sensor.rejected === undefined && sensor.uncertain) found.push({ kind: "uncertain", words: "confidence below the route's limit" });
  if (sensor.rejected === undefined && sensor.outside?.length > 0) found.push({ kind: "outside", words: sensor.outside.join(", ") });
  return found;
}
