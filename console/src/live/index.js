/**
 * The live view of all nodes on the broker.
 *
 * Rules:
 * - A message costs next to nothing when it comes: it waits for the next frame, and a frame takes a few milliseconds of them.
 * - Of answers, what is more is sampled; of what nodes tell of themselves the latest of each topic is taken, and what is beyond the
 *   bound is counted. The page says both.
 * - Tables are written four times a second, charts twice; nothing is subscribed to or drawn while the view is not shown.
 */
import { fill, h } from "../dom.js";
import { withoutCovered } from "../topics.js";
import { count, many, rate } from "../words.js";
import { Charts } from "./charts.js";
import { Intake, Told } from "./intake.js";
import { NodeTable } from "./nodes.js";
import { SensorTable } from "./sensors.js";
import { OWN, Store } from "./store.js";

const TABLES = 250;
const CHARTS = 500;
/** Without frames, as in a tab behind others, messages are taken this often. */
const HIDDEN = 1000;

/**
 * @param {HTMLElement} root an empty element that is the view's own
 * @param {import("../connection.js").Connection} connection
 * @returns {{ shown(visible: boolean): void, close(): void }}
 */
export function mount(root, connection) {
  const view = new LiveView(connection);
  root.append(view.element);
  return { shown: (visible) => view.shown(visible), close: () => view.close() };
}

class LiveView {
  constructor(connection) {
    this._connection = connection;
    this._store = new Store();
    this._intake = new Intake();
    this._own = [];
    this._told = new Told();
    this._subscriptions = new Map();
    this._last = null;
    this._refused = "";
    this._shown = false;
    this._frame = 0;
    this._timer = 0;
    this._drawn = { tables: 0, charts: 0 };
    this._charts = new Charts();
    this._sensors = new SensorTable(
      (sensor) => sensor && this._charts.choose(sensor),
      (sensor) => Charts.color(this._store, sensor),
    );
    this._nodes = new NodeTable((node, name) => connection.publish(`edge/${node}/request/install`, name));
    this._said = h("p", { class: "live-summary dim", "data-live": "summary" });
    this._sampled = h("p", { class: "live-sampled", role: "status", hidden: true });
    this.element = h("div", { class: "live" }, this._said, this._sampled, this._nodes.element, this._charts.element, this._sensors.element);
    this._url = "";
    this._unwatch = connection.watch((status) => this._watch(status));
  }

  shown(visible) {
    if (visible === this._shown) return;
    this._shown = visible;
    if (visible) {
      this._own = OWN.map((filter) => this._subscribe(filter));
      this._wish();
      this._turn();
    } else {
      this._rest();
    }
  }

  close() {
    this.shown(false);
    this._unwatch();
    this._charts.close();
    this.element.remove();
  }

  _rest() {
    for (const end of [...this._own, ...this._subscriptions.values()]) end();
    this._own = [];
    this._subscriptions.clear();
    this._told.clear();
    this._store.pause();
    cancelAnimationFrame(this._frame);
    clearTimeout(this._timer);
  }

  _watch({ state, reason, url }) {
    if (url !== this._url) {
      // Another broker has other nodes.
      this._url = url;
      this._store.clear();
      this._told.clear();
      if (this._shown) this._wish();
    }
    if (state === "online") this._refused = "";
    else this._store.pause();
    this._status = state === "online" ? "" : state === "connecting" ? `Connecting … ${reason}` : reason ? `Not connected: ${reason}` : "Connect to a broker to see its nodes.";
  }

  _subscribe(filter) {
    const end = this._connection.subscribe(filter, (message) => this._take(message));
    end.ready.then(
      () => {},
      (error) => (this._refused = error.message),
    );
    return end;
  }

  /** Subscribe to the answers of the routes that are known, and to no others. */
  _wish() {
    const wanted = withoutCovered(this._store.filters);
    for (const [filter, end] of this._subscriptions) {
      if (wanted.has(filter)) continue;
      end();
      this._subscriptions.delete(filter);
    }
    for (const filter of wanted) {
      if (!this._subscriptions.has(filter)) this._subscriptions.set(filter, this._subscribe(filter));
    }
  }

  _take({ topic, payload, retain, properties }) {
    // Where two filters take the same message, it comes to both.
    if (payload === this._last && payload.length > 0) return;
    this._last = payload;
    const now = Date.now();
    const message = { topic, payload, now, retain, contentType: properties.contentType, weight: 1 };
    if (Store.isOwn(topic)) {
      this._told.offer(message);
      return;
    }
    this._store.rate.add(now);
    this._intake.offer(message);
  }

  /** One frame; and the next one, or a second of a tab that has none. */
  _turn() {
    if (!this._shown) return;
    const now = Date.now();
    this._takeTold(document.hidden ? 50 : 6);
    this._intake.drain((message) => this._store.take(message), document.hidden ? 50 : 6);
    if (!document.hidden) this._draw(now);
    cancelAnimationFrame(this._frame);
    clearTimeout(this._timer);
    const next = () => this._turn();
    if (!document.hidden) this._frame = requestAnimationFrame(next);
    // Also where a frame was asked for: the tab may go behind others before it comes.
    this._timer = setTimeout(next, HIDDEN);
  }

  /** Take what nodes told of themselves, for at most `budget` milliseconds. */
  _takeTold(budget) {
    this._told.drain((message) => this._store.take(message), budget);
    if (this._store.learn()) this._wish();
  }

  _draw(now) {
    if (now - this._drawn.tables >= TABLES || now < this._drawn.tables) {
      this._drawn.tables = now;
      this._say(now);
      this._nodes.draw(this._store, now);
      this._sensors.chosen = this._charts.chosenSensor;
      this._sensors.draw(this._store, now);
    } else if (now - this._drawn.charts >= CHARTS || now < this._drawn.charts) {
      // Never in the same frame as the tables.
      this._drawn.charts = now;
      this._charts.draw(this._store, now);
    }
  }

  _say(now) {
    const { nodes, sensors, unread } = this._store;
    const online = [...nodes.values()].filter((node) => node.state === "online").length;
    const parts = [`${many(nodes.size, "node")}, ${count(online)} online`, many(sensors.size, "sensor"), `${rate(this._store.rate.at(now))} answers/s`];
    if (unread > 0) parts.push(`${count(unread)} answers could not be read`);
    if (this._told.skipped > 0) parts.push(`${many(this._told.skipped, "message")} of nodes about themselves skipped: more came at once than this page keeps`);
    if (this._refused) parts.push(`refused: ${this._refused}`);
    const said = this._status ? [this._status] : parts;
    if (this._saying !== said.join("\n")) {
      this._saying = said.join("\n");
      fill(this._said, said.map((part) => h("span", {}, part)));
    }
    const sampled = this._saySampled();
    if (this._sampled.textContent !== sampled) this._sampled.textContent = sampled;
    this._sampled.hidden = sampled === "";
  }

  _saySampled() {
    const { every, skipped } = this._intake;
    if (every > 1) return `More answers come than this page can show: it reads about 1 in ${count(every)}, and its counts are estimates.`;
    return skipped > 0 ? `${count(skipped)} answers were skipped while more came than this page can show; its counts are estimates.` : "";
  }
}
