/** Which node's document is shown: the one in the page, or one that a node keeps on the broker. */
import { readDocument } from "./document.js";
import { fill, h } from "./dom.js";
import { levelError } from "./topics.js";

/** A document is a few hundred KB at the most; what is larger is none. Nobody chooses among more nodes than this. */
const LARGEST = 4_000_000;
const MOST_NODES = 1000;
const DOCS = "edge/+/docs";
const STATES = new Map([["online", "good"], ["degraded", "warn"], ["offline", "bad"]]);

/**
 * @param {import("./connection.js").Connection} connection
 * @param {import("./document.js").NodeDocument | null} embedded
 * @param {(document: import("./document.js").NodeDocument | null) => void} chosen
 * @param {(documents: import("./document.js").NodeDocument[]) => void} learned told of all that are known
 */
export function nodePicker(connection, embedded, chosen, learned) {
  /** node -> document @type {Map<string, import("./document.js").NodeDocument>} */
  const known = new Map(embedded ? [[embedded.node, embedded]] : []);
  let current = embedded;
  let endState = () => {};
  const state = h("span", { class: "badge", role: "status" });
  const select = h("select", { "aria-label": "Node", on: { change: () => choose(select.value) } });
  const newer = h("button", { type: "button", class: "newer small", on: { click: () => choose(current?.node) } }, "Show its newer documentation");
  const element = h("span", { class: "node" }, select, state, newer);

  function choose(node) {
    current = known.get(node) ?? null;
    newer.hidden = true;
    showState("");
    endState();
    // A document from a disk may say anything; a filter that a broker takes offense at would end the connection.
    const isLevel = current !== null && levelError(current.node) === "";
    endState = isLevel ? connection.subscribe(`edge/${current.node}/state`, ({ payload }) => showState(new TextDecoder().decode(payload))) : () => {};
    chosen(current);
  }
  function showState(said) {
    state.className = `badge ${STATES.get(said) ?? ""}`;
    fill(state, STATES.has(said) ? said : "");
    state.hidden = !STATES.has(said);
  }
  function list() {
    const names = [...known.keys()].sort();
    fill(select, names.map((name) => h("option", { value: name, selected: name === current?.node }, name)));
    element.hidden = !names.length;
    learned([...known.values()]);
  }
  function learn({ topic, payload }) {
    const node = topic.split("/")[1];
    if (!payload.length) known.delete(node);
    else if (payload.length <= LARGEST && (known.has(node) || known.size < MOST_NODES)) {
      try {
        const document = readDocument(JSON.parse(new TextDecoder().decode(payload)));
        if (document.node !== node) return;
        known.set(node, document);
      } catch (error) {
        return console.info(`${topic}: ${error.message}`);
      }
    }
    if (!current) choose(known.keys().next().value);
    // What somebody is filling in is not taken away from under the hands.
    else if (current.node === node) newer.hidden = !known.has(node) || same(known.get(node), current);
    list();
  }
  connection.subscribe(DOCS, learn);
  connection.watch(({ state: now }) => now !== "online" && showState(""));
  list();
  if (current) choose(current.node);
  else chosen(null);
  return element;
}

/** Whether two documents say the same. */
function same(one, other) {
  return JSON.stringify(one.asyncapi) === JSON.stringify(other.asyncapi);
}
