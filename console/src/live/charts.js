/**
 * Labels and confidence over time: of all sensors of a model, or of one sensor.
 *
 * Rules:
 * - What is drawn is also there as text: the legend has the figures.
 * - uPlot draws on a canvas, and its own legend is off, so no text from the wire becomes markup.
 */
import uPlot from "uplot";
import { fill, h, newId } from "../dom.js";
import { amount, count, percent } from "../words.js";

const HEIGHT = 190;
/** What is drawn: so many seconds, or since the first answer, but not less than the shortest. */
const SECONDS = 180;
const SHORTEST = 60;

export class Charts {
  constructor() {
    this._subject = h("select", { on: { change: () => this._choose(this._subject.value) } });
    this._titles = [h("figcaption"), h("figcaption")];
    this._canvases = [h("div", { class: "live-canvas", role: "img" }), h("div", { class: "live-canvas", role: "img" })];
    this._legend = h("ul", { class: "live-legend" });
    this._plots = [null, null];
    this._shapes = ["", ""];
    this._options = "";
    this.chosen = "";
    const title = newId();
    this.element = h(
      "section",
      { class: "card", "aria-labelledby": title },
      h("div", { class: "live-head" }, h("h2", { id: title }, "Over time"), h("label", {}, "of", this._subject)),
      h("div", { class: "live-charts" }, [0, 1].map((place) => h("figure", {}, this._titles[place], this._canvases[place]))),
      this._legend,
    );
    // A canvas has the colors of the moment in which it was drawn.
    this._redraw = () => (this._shapes = ["", ""]);
    addEventListener("theme", this._redraw);
    this._resized = new ResizeObserver(() => this._fit());
    this._canvases.forEach((one) => this._resized.observe(one));
  }

  close() {
    removeEventListener("theme", this._redraw);
    this._resized.disconnect();
    this._plots.forEach((plot) => plot?.destroy());
  }

  /** The key of the sensor that is drawn; empty when it is a model, or nothing yet. */
  get chosenSensor() {
    return this.chosen.startsWith("sensor ") ? this.chosen.slice(7) : "";
  }

  /** Draw one sensor from now on. */
  choose(sensor) {
    this._choose(`sensor ${sensor.key}`);
  }

  _choose(value) {
    this.chosen = value;
    if (this._store) this.draw(this._store, this._now);
  }

  /** The color of a sensor's label: that of the label in its model's chart. */
  static color(store, sensor) {
    const trend = store.trends.get(sensor.model);
    if (sensor.uncertain || typeof sensor.label !== "string" || trend === undefined) return "transparent";
    const place = trend.place(sensor.label);
    return `var(${variable(trend.colors[place])})`;
  }

  /** @param {import("./store.js").Store} store @param {number} now */
  draw(store, now) {
    this._store = store;
    this._now = now;
    this._offer(store);
    const sensor = store.sensors.get(this.chosenSensor);
    const model = sensor?.model ?? (this.chosen.startsWith("model ") ? this.chosen.slice(6) : undefined);
    const trend = store.trends.get(model);
    this.element.hidden = trend === undefined;
    if (trend === undefined) return;
    this._from = Math.min(now / 1000 - SHORTEST, Math.max(now / 1000 - SECONDS, trend.began));
    if (sensor) this._drawSensor(sensor, trend, now);
    else this._drawModel(trend, now);
  }

  /** Keep the choices at what there is: each model, and the sensor that was chosen. */
  _offer(store) {
    const chosen = store.sensors.get(this.chosenSensor);
    if (!chosen && !store.trends.has(this.chosen.slice(6))) {
      const first = store.trends.keys().next();
      this.chosen = first.done ? "" : `model ${first.value}`;
    }
    const offered = [...store.trends.keys()].map((model) => [`model ${model}`, `all sensors of ${model || "a model without a name"}`]);
    if (chosen) offered.push([this.chosen, `sensor ${chosen.name} (${chosen.model})`]);
    const said = JSON.stringify(offered);
    if (said !== this._options) {
      this._options = said;
      fill(this._subject, offered.map(([value, name]) => h("option", { value }, name)));
    }
    if (this._subject.value !== this.chosen) this._subject.value = this.chosen;
  }

  _drawModel(trend, now) {
    const { times, counts, confidence, value } = trend.series(now, SECONDS);
    if (trend.labels.length > 0) {
      this._put(0, `model ${trend.colors}`, "Labels a second", [times, ...counts], () => ({
        series: trend.colors.map((color) => this._line(color, { paths: uPlot.paths.stepped({ align: 1 }) })),
        scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.05)] } },
      }));
    } else {
      this._put(0, "value", "Mean value", [times, value], () => ({ series: [this._line(0, { spanGaps: true })] }));
    }
    this._putConfidence("Mean confidence", times, confidence);
    const sums = counts.map((one) => one.reduce((sum, each) => sum + each, 0));
    const all = sums.reduce((sum, one) => sum + one, 0);
    this._explain(trend.labels.map((label, place) => [trend.colors[place], label, `${count(sums[place])}${all ? ` (${percent(sums[place] / all)})` : ""}`]), `in the last ${SECONDS / 60} minutes`);
  }

  _drawSensor(sensor, trend, now) {
    const points = sensor.history.since(now - SECONDS * 1000);
    const times = points.map(([time]) => time / 1000);
    const values = points.map(([, value]) => value);
    const labelled = sensor.label !== undefined;
    if (labelled) {
      const { labels, colors } = trend;
      this._put(0, `sensor ${colors}`, `Labels of ${sensor.name}`, [times, ...labels.map((_, place) => values.map((value) => (value === place ? place : null)))], () => ({
        series: colors.map((color) => this._line(color, { paths: () => null, points: { show: true, size: 7, fill: this._color(color) } })),
        scales: { y: { range: [-0.5, labels.length - 0.5] } },
        y: {
          splits: () => labels.map((_, place) => place),
          values: (_, splits) => splits.map((place) => short(labels[place] ?? "")),
          size: () => 20 + 7 * Math.min(14, Math.max(4, ...labels.map((label) => label.length))),
        },
      }));
    } else {
      this._put(0, "sensor value", `Value of ${sensor.name}${sensor.unit ? ` in ${sensor.unit}` : ""}`, [times, values], () => ({ series: [this._line(0, { points: { show: true, size: 4 } })] }));
    }
    this._putConfidence(`Confidence of ${sensor.name}`, times, points.map(([, , confidence]) => confidence));
    const seen = labelled ? trend.labels.map((label, place) => [trend.colors[place], label, count(values.filter((value) => value === place).length)]) : [];
    const numbers = values.filter((value) => value !== null);
    if (!labelled && numbers.length > 0) seen.push([0, "value", `${amount(Math.min(...numbers))} to ${amount(Math.max(...numbers))}`]);
    this._explain(seen.filter(([, , figure]) => figure !== "0"), "points drawn");
  }

  /** Confidence between 0 and 1; the score of an anomaly detector has bounds of its own. */
  _putConfidence(title, times, confidence) {
    const known = confidence.filter((one) => one !== null);
    this._canvases[1].parentElement.hidden = known.length === 0;
    if (known.length === 0) return;
    const score = known.some((one) => one < 0 || one > 1);
    this._put(1, score ? "score" : "confidence", score ? title.replace(/confidence/i, "score") : title, [times, confidence], () => ({
      series: [this._line(0, { spanGaps: true, points: { show: true, size: 3 } })],
      scales: score ? {} : { y: { range: [0, 1] } },
      y: score ? {} : { values: (_, splits) => splits.map((one) => `${Math.round(100 * one)} %`) },
    }));
  }

  _put(place, shape, title, data, options) {
    if (this._titles[place].textContent !== title) this._titles[place].textContent = title;
    const canvas = this._canvases[place];
    const now = this._now / 1000;
    if (this._shapes[place] !== shape || this._plots[place] === null) {
      this._shapes[place] = shape;
      this._plots[place]?.destroy();
      const { series, scales = {}, y = {} } = options();
      const { color } = getComputedStyle(canvas);
      const axis = { stroke: color, font: "12px system-ui, sans-serif", grid: { stroke: "#8884", width: 1 }, ticks: { stroke: "#8884", width: 1 } };
      this._plots[place] = new uPlot(
        {
          width: Math.max(200, canvas.clientWidth),
          height: HEIGHT,
          legend: { show: false },
          cursor: { show: false },
          series: [{}, ...series],
          scales: { ...scales, x: { time: true, range: () => [this._from, this._now / 1000] } },
          axes: [{ ...axis, size: 34, space: 76, values: clock }, { ...axis, size: 56, ...y }],
        },
        data,
        canvas,
      );
    } else {
      this._plots[place].setData(data);
    }
    canvas.setAttribute("aria-label", `${title}, the last ${SECONDS / 60} minutes until ${new Date(now * 1000).toLocaleTimeString("en-GB")}`);
  }

  _explain(entries, what) {
    const said = JSON.stringify([entries, what]);
    if (this._explained === said) return;
    this._explained = said;
    fill(
      this._legend,
      entries.map(([color, name, figure]) =>
        h("li", {}, h("span", { class: "live-swatch", "aria-hidden": "true", style: { background: `var(${variable(color)})` } }), name, " ", h("span", { class: "dim" }, figure)),
      ),
      entries.length > 0 && h("li", { class: "dim" }, what),
    );
  }

  /** The color with a number on a canvas, which knows no variables. */
  _color(color) {
    return getComputedStyle(this.element).getPropertyValue(variable(color)) || "gray";
  }

  _line(color, more = {}) {
    return { stroke: this._color(color), width: 1.5, points: { show: false }, ...more };
  }

  _fit() {
    this._plots.forEach((plot, place) => {
      const width = this._canvases[place].clientWidth;
      if (plot !== null && width > 0 && Math.abs(plot.width - width) > 1) plot.setSize({ width, height: HEIGHT });
    });
  }
}

const variable = (color) => `--series-${color + 1}`;
const short = (text) => (text.length > 14 ? `${text.slice(0, 13)}…` : text);
const clock = (_, splits) => splits.map((time) => new Date(time * 1000).toLocaleTimeString("en-GB"));
