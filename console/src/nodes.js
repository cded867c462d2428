/** Which node's document is shown: the one in the page, or one that a node keeps on the broker. */
import { readDocument } from "./document.js";
import { fill, h } from "./dom.js";

/** A document is a few hundred KB at the most; what is larger is none. */
const LARGEST = 4_000_000;
const DOCS = "edge/+/docs";

/**
 * @param {import("./connection.js").Connection} connection
 * @param {import("./document.js").NodeDocument | null} embedded
 * @param {(document: import("./document.js").NodeDocument | null) => void} chosen
 */
export function nodePicker(connection, embedded, chosen) {
  /** node -> document @type {Map<string, import("./document.js").NodeDocument>} */
  const known = new Map(embedded ? [[embedded.node, embedded]] : []);
  let current = embedded;
  let endState = () => {};
  const dot = h("span", { class: "dot", "aria-hidden": "true" });
  const state = h("span", { class: "badge", role: "status" });
  const select = h("select", { "aria-label": "Node", on: { change: () => choose(select.value) } });
  const element = h("span", { class: "node" }, select, state);

  function choose(node) {
    current = known.get(node) ?? null;
    showState("");
    endState();
    endState = current ? connection.subscribe(`edge/${current.node}/state`, ({ payload }) => showState(new TextDecoder().decode(payload))) : () => {};
    chosen(current);
  }
  function showState(said) {
    const kind = { online: "good", degraded: "warn", offline: "bad" }[said];
    state.className = `badge ${kind ?? ""}`;
    fill(state, kind ? said : "");
    state.hidden = !kind;
  }
  function list() {
    const names = [...known.keys()].sort();
    fill(select, names.map((name) => h("option", { value: name, selected: name === current?.node }, name)));
    element.hidden = !names.length;
  }
  function learn({ topic, payload }) {
    const node = topic.split("/")[1];
    if (!payload.length) known.delete(node);
    else if (payload.length <= LARGEST) {
      try {
        const document = readDocument(JSON.parse(new TextDecoder().decode(payload)));
        if (document.node !== node) return;
        known.set(node, document);
      } catch (error) {
        return console.info(`${topic}: ${error.message}`);
      }
    }
    // What somebody is filling in is not taken away from under the hands: a newer document of the same node waits for a choice.
    if (!current) choose(known.keys().next().value);
    list();
  }
  connection.subscribe(DOCS, learn);
  connection.watch(({ state: now }) => now !== "online" && showState(""));
  list();
  if (current) choose(current.node);
  else chosen(null);
  return element;
}
