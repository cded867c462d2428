/** The table of nodes: what each serves, its state, rates, latency and rejections, as it tells itself. */
import { fill, h, newId } from "../dom.js";
import { STATES } from "../state.js";
import { age, count, milliseconds, rate } from "../words.js";
import { text } from "./answers.js";
import { arrange } from "./rows.js";
import { UpdateView } from "./update.js";

const COLUMNS = ["Node", "State", "Serves", "Messages/s", "Latency p50, p99 (ms)", "Rejections", "Outside", "Uncertain", "Agent"];
const SHOWN = 200;
const isNumber = (place) => place >= 3 && place <= 7;

export class NodeTable {
  /** `install(node, name)` asks a node to install what it has of a model. @param {(node: string, name: string) => Promise<void>} install */
  constructor(install) {
    const title = newId();
    this._install = install;
    this._rows = new Map();
    this._body = h("tbody");
    this._said = h("p", { class: "dim small live-foot" });
    this._table = h(
      "table",
      { class: "live-nodes", "aria-labelledby": title },
      h("thead", {}, h("tr", {}, COLUMNS.map((name, place) => h("th", { scope: "col", class: isNumber(place) ? "live-number" : null }, name)))),
      this._body,
    );
    this.element = h(
      "section",
      { class: "card" },
      h("div", { class: "live-head" }, h("h2", { id: title }, "Nodes")),
      h("div", { class: "live-scroll", tabindex: "0", role: "region", "aria-labelledby": title }, this._table),
      this._said,
    );
  }

  /** Write what differs. @param {import("./store.js").Store} store @param {number} now */
  draw(store, now) {
    const nodes = [...store.nodes].sort(([one], [other]) => (one < other ? -1 : 1)).slice(0, SHOWN);
    arrange(this._body, this._rows, nodes.map(([id]) => id), () => this._make());
    for (const [id, node] of nodes) {
      const row = this._rows.get(id);
      this._write(row, node, now);
      this._writeVersions(row, id, node);
    }
    const parts = [];
    if (store.nodes.size === 0) parts.push("No node has told of itself on this broker yet (edge/+/info).");
    if (store.nodes.size > SHOWN) parts.push(`${SHOWN} of ${count(store.nodes.size)} nodes are shown`);
    if (store.left.nodes > 0) parts.push(`only the first ${count(store.bounds.nodes)} nodes are followed`);
    if (store.left.routes > 0) parts.push(`only the first ${count(store.bounds.routes)} routes are followed`);
    const said = parts.join("; ");
    if (this._said.textContent !== said) this._said.textContent = said;
    this._said.hidden = said === "";
  }

  _make() {
    const cells = COLUMNS.map((_, place) => (place === 0 ? h("th", { scope: "row" }) : h("td", { class: isNumber(place) ? "live-number" : null })));
    return { element: h("tr", {}, cells), cells, said: [], models: h("div"), versions: new Map() };
  }

  /** Below the models, what there is to say of their versions; a button stays while it is there. */
  _writeVersions(row, id, { versions, asked }) {
    for (const [name, one] of row.versions) {
      if (versions.has(name)) continue;
      one.element.remove();
      row.versions.delete(name);
    }
    for (const [name, said] of versions) {
      let one = row.versions.get(name);
      if (one === undefined) {
        one = new UpdateView(() => this._install(id, name));
        row.versions.set(name, one);
        row.cells[2].append(one.element);
      }
      one.draw(text(name), said, asked);
    }
  }

  _write(row, node, now) {
    const { health } = node;
    const state = node.state ?? "unknown";
    // How long it was so before this page came is not known.
    const since = node.changed ? ` for ${age(now - node.since)}` : "";
    const texts = [
      node.id,
      `${state}\n${node.reason ?? ""}\n${since}`,
      [...node.models.map(({ name, version }) => `${name ?? "?"} ${version ?? ""}`), ...node.drift.map(({ model, how }) => `${model} ${how}`)].join("\n"),
      rate(health?.rate),
      health?.p50 === undefined ? "–" : `${milliseconds(health.p50)}, ${milliseconds(health.p99)}`,
      count(health?.rejections),
      count(health?.outside),
      count(health?.uncertain),
      node.agent ?? "",
    ];
    texts.forEach((text, place) => {
      if (row.said[place] === text) return;
      row.said[place] = text;
      if (place === 1) {
        fill(row.cells[1], h("span", { class: `badge ${STATES.get(state) ?? ""}` }, state), h("span", { class: "dim" }, since), node.reason && h("div", { class: "dim" }, node.reason));
      } else if (place === 2) {
        if (!row.models.isConnected) row.cells[2].prepend(row.models);
        const models = node.models.map(({ name, version, task }) => h("div", {}, `${name ?? "?"} ${version ?? ""}`, task && h("span", { class: "dim" }, ` ${task}`)));
        const drifted = node.drift.map(({ model, how }) => h("div", { class: "small" }, h("span", { class: "badge warn" }, "drift"), ` ${model}: ${how}`));
        fill(row.models, models.length ? models : "–", drifted);
      } else {
        row.cells[place].textContent = text;
      }
    });
    row.element.classList.toggle("live-warned", state !== "online");
  }
}
