/**
 * The table of sensors.
 *
 * Rules:
 * - It shows the first rows only, and says of how many: thousands of rows would take longer to lay out than a frame has.
 * - A row is made once for a sensor, and only the cells that differ are written.
 * - The order holds still while somebody points at it or has the focus in it, or the row would be gone before the click.
 */
import { fill, h, newId } from "../dom.js";
import { age, answer, count, many, percent } from "../words.js";
import { arrange } from "./rows.js";
import { sorted, wanted } from "./sorting.js";
import { warnings } from "./store.js";

const SHOWN = 100;
const COLUMNS = [
  ["sensor", "Sensor"],
  ["model", "Model"],
  ["answer", "Label or value"],
  ["confidence", "Confidence"],
  ["age", "Age"],
  ["messages", "Answers"],
  ["warnings", "Warnings"],
];
const BADGES = { unread: "bad", rejected: "bad", anomaly: "bad", uncertain: "warn", outside: "warn" };
const NUMBERS = new Set(["confidence", "age", "messages"]);

export class SensorTable {
  /** @param {(sensor: any) => void} choose called with the sensor whose course is wanted @param {(sensor: any) => string} color */
  constructor(choose, color) {
    this._choose = choose;
    this._color = color;
    this._rows = new Map();
    this._column = "sensor";
    this._direction = "ascending";
    this._most = SHOWN;
    this._order = [];
    this.chosen = "";
    const id = newId();
    const title = newId();
    this._filter = h("input", { id, type: "search", placeholder: "kitchen, rock, uncertain …", autocomplete: "off", on: { input: () => this._again() } });
    this._warned = h("input", { type: "checkbox", on: { change: () => this._again() } });
    this._heads = new Map();
    const heads = COLUMNS.map(([column, name]) => {
      const head = h("th", { scope: "col", class: NUMBERS.has(column) ? "live-number" : null }, h("button", { type: "button", on: { click: () => this._sort(column) } }, name));
      this._heads.set(column, head);
      return head;
    });
    this._body = h("tbody");
    this._said = h("p", { class: "dim small" });
    this._more = h("button", { type: "button", hidden: true, on: { click: () => this._again((this._most += SHOWN)) } }, `Show ${SHOWN} more`);
    this._table = h("table", { class: "live-sensors", "aria-labelledby": title }, h("thead", {}, h("tr", {}, heads)), this._body);
    this.element = h(
      "section",
      { class: "card" },
      h("div", { class: "live-head" }, h("h2", { id: title }, "Sensors"), h("label", { for: id }, "Filter", this._filter), h("label", { class: "check" }, this._warned, "with a warning")),
      h("div", { class: "live-scroll", tabindex: "0", role: "region", "aria-labelledby": title }, this._table),
      h("div", { class: "live-foot" }, this._said, this._more),
    );
    this._sort("sensor");
  }

  _sort(column) {
    if (this._column === column && this._sortedOnce) this._direction = this._direction === "ascending" ? "descending" : "ascending";
    else this._direction = ["sensor", "model", "answer"].includes(column) ? "ascending" : "descending";
    this._sortedOnce = true;
    this._column = column;
    for (const [name, head] of this._heads) {
      // The column of the age is sorted by when it was: the latest first is the smallest age first.
      const direction = name === "age" ? { ascending: "descending", descending: "ascending" }[this._direction] : this._direction;
      if (name === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    }
    this._again();
  }

  _again() {
    this._anew = true;
    if (this._store) this.draw(this._store, this._now);
  }

  /** Write what differs. @param {import("./store.js").Store} store @param {number} now */
  draw(store, now) {
    this._store = store;
    this._now = now;
    const held = !this._anew && (this._body.matches(":hover") || this._body.contains(document.activeElement));
    this._anew = false;
    const found = [...store.sensors.values()].filter((sensor) => wanted(sensor, this._filter.value, this._warned.checked));
    const order = held ? this._held(store, found) : sorted(found, this._column, this._direction).slice(0, this._most);
    this._order = order;
    arrange(this._body, this._rows, order.map((sensor) => sensor.key), (key) => this._make(key));
    for (const sensor of order) this._write(this._rows.get(sensor.key), sensor, now);
    this._say(store, order.length, found.length);
  }

  /** The sensors in the order that stands, without those that are gone, and new ones below. */
  _held(store, found) {
    const kept = this._order.map((sensor) => store.sensors.get(sensor.key)).filter(Boolean);
    const keys = new Set(kept.map((sensor) => sensor.key));
    const room = Math.max(0, this._most - kept.length);
    return [...kept, ...found.filter((sensor) => !keys.has(sensor.key)).slice(0, room)];
  }

  _make(key) {
    const name = h("button", { type: "button", class: "live-name", on: { click: () => this._choose(this._store.sensors.get(key)) } });
    const swatch = h("span", { class: "live-swatch", "aria-hidden": "true" });
    const label = h("span");
    const bar = h("span");
    const gauge = h("span", { class: "live-gauge", "aria-hidden": "true" }, bar);
    const figure = h("span");
    const cells = { model: h("td"), age: h("td", { class: "live-number" }), messages: h("td", { class: "live-number" }), warnings: h("td", { class: "live-warnings" }) };
    const element = h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      cells.model,
      h("td", {}, swatch, label),
      h("td", { class: "live-number" }, figure, gauge),
      cells.age,
      cells.messages,
      cells.warnings,
    );
    return { element, name, swatch, label, bar, gauge, figure, ...cells, said: {} };
  }

  _write(row, sensor, now) {
    const set = (name, value) => {
      if (row.said[name] === value) return;
      row.said[name] = value;
      row[name].textContent = value;
    };
    set("name", sensor.name === "" ? "(empty)" : sensor.name);
    set("model", sensor.model);
    set("label", answer(sensor));
    const color = this._color(sensor);
    if (row.said.color !== color) {
      row.said.color = color;
      row.swatch.style.setProperty("background", color);
    }
    set("figure", sensor.confidence !== undefined ? percent(sensor.confidence) : sensor.score !== undefined ? sensor.score.toFixed(3) : "");
    row.gauge.hidden = sensor.confidence === undefined;
    const width = `${Math.round(100 * Math.min(1, Math.max(0, sensor.confidence ?? 0)))}%`;
    if (row.said.width !== width) {
      row.said.width = width;
      row.bar.style.setProperty("inline-size", width);
    }
    set("age", sensor.retained ? "retained" : age(now - sensor.at));
    set("messages", count(sensor.count));
    const chosen = sensor.key === this.chosen;
    if (row.said.chosen !== chosen) {
      row.said.chosen = chosen;
      row.name.setAttribute("aria-pressed", String(chosen));
    }
    const found = warnings(sensor);
    // The latest answer is no rejection any more, but there were some.
    const earlier = sensor.rejected === undefined && sensor.rejections > 0 ? `${many(Math.round(sensor.rejections), "rejection")} before` : "";
    const said = [...found.map(({ kind, words }) => `${kind}\n${words}`), earlier].join("\n");
    if (row.said.warnings === said) return;
    row.said.warnings = said;
    fill(row.warnings, found.map(({ kind, words }) => [h("span", { class: `badge ${BADGES[kind]}` }, kind), " ", h("span", { class: "dim" }, words), " "]), h("span", { class: "dim" }, earlier));
    row.element.classList.toggle("live-warned", found.length > 0);
  }

  _say(store, shown, found) {
    const all = store.sensors.size;
    const parts = [];
    if (all === 0) parts.push("No sensor has been answered yet.");
    else parts.push(found < all ? `${count(shown)} of ${count(found)} that match, of ${many(all, "sensor")}` : `${count(shown)} of ${many(all, "sensor")}`);
    if (store.left.sensors > 0) parts.push(`only the first ${count(store.bounds.sensors)} sensors are followed`);
    const said = parts.join("; ");
    if (this._said.textContent !== said) this._said.textContent = said;
    this._more.hidden = shown >= found;
  }
}
