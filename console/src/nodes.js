/** Which node's document is shown: the one in the page, or one that a node keeps on the broker. */
import { readDocument } from "./document.js";
import { fill, h } from "./dom.js";
import { followState, STATES } from "./state.js";

/** A document is a few hundred KB at the most; what is larger is none. Nobody chooses among more nodes than this. */
const LARGEST = 4_000_000;
const MOST_NODES = 1000;
/** Characters of all documents together: they are kept as text, and only the chosen one is taken apart. */
const ALL_TEXT = 16_000_000;
const DOCS = "edge/+/docs";
const NOT_CONNECTED = "Connect to a broker to learn of its nodes, and try their models.";
const NOTHING_YET = "No node on this broker has published its documentation yet (edge/{node}/docs).";

/**
 * @typedef {{node: string, content: string | null, routes: {sources: {subscribe: string}[]}[]}} Known what is kept of a document:
 *   its text (none for the page's own), and what it takes
 */

/**
 * @param {import("./connection.js").Connection} connection
 * @param {import("./document.js").NodeDocument | null} embedded
 * @param {(document: import("./document.js").NodeDocument | null, why: string) => void} chosen `why` there is none
 * @param {(documents: Known[]) => void} learned told of all that are known
 */
export function nodePicker(connection, embedded, chosen, learned) {
  /** @type {Map<string, Known>} */
  const known = new Map(embedded ? [[embedded.node, knownOf(embedded, null)]] : []);
  let isFull = false;
  let current = embedded;
  let endState = () => {};
  const state = h("span", { class: "badge", role: "status" });
  const select = h("select", { "aria-label": "Node", on: { change: () => choose(select.value) } });
  const newer = h("button", { type: "button", class: "newer small", on: { click: () => choose(current?.node) } }, "Show its newer documentation");
  const element = h("span", { class: "node" }, select, state, newer);

  function choose(node) {
    const one = known.get(node);
    current = one?.content ? readDocument(JSON.parse(one.content)) : one ? embedded : null;
    newer.hidden = true;
    showState("");
    endState();
    endState = current ? followState(connection, current.node, showState) : () => {};
    show();
    list();
  }
  function show() {
    try {
      chosen(current, connection.state === "online" ? NOTHING_YET : NOT_CONNECTED);
    } catch (error) {
      console.info(error);
      chosen(null, `The documentation of ${current?.node} can't be shown: ${error.message}`);
    }
  }
  function showState(said) {
    state.className = `badge ${STATES.get(said) ?? ""}`;
    fill(state, STATES.has(said) ? said : "");
    state.hidden = !STATES.has(said);
  }
  function list() {
    // What is shown stays among them, so that the form is always that of the chosen one.
    const names = [...new Set([...known.keys(), ...(current ? [current.node] : [])])].sort();
    const label = (name) => (known.has(name) ? name : `${name} (no longer on the broker)`);
    fill(
      select,
      names.map((name) => h("option", { value: name, selected: name === current?.node }, label(name))),
      isFull && h("option", { disabled: true }, "… and more than this page keeps"),
    );
    element.hidden = !names.length;
    learned([...known.values()]);
  }
  function learn({ topic, payload }) {
    const node = topic.split("/")[1];
    if (!payload.length) known.delete(node);
    else if (payload.length <= LARGEST) {
      const content = new TextDecoder().decode(payload);
      let document;
      try {
        document = readDocument(JSON.parse(content));
      } catch (error) {
        return console.info(`${topic}: ${error.message}`);
      }
      if (document.node !== node) return;
      if (hasRoom(node, content)) known.set(node, knownOf(document, content));
      else isFull = true;
    }
    if (!current) choose(known.keys().next().value);
    // What somebody is filling in is not taken away from under the hands.
    else if (current.node === node) newer.hidden = !known.get(node)?.content || same(known.get(node).content, current);
    list();
  }
  function hasRoom(node, content) {
    const others = [...known].filter(([name]) => name !== node);
    return others.length < MOST_NODES && others.reduce((sum, [, one]) => sum + (one.content?.length ?? 0), content.length) <= ALL_TEXT;
  }
  connection.subscribe(DOCS, learn);
  connection.watch(({ state: now }) => {
    if (now !== "online") showState("");
    if (!current) show();
  });
  if (current) choose(current.node);
  list();
  return element;
}

/** @param {import("./document.js").NodeDocument} document @param {string | null} content @returns {Known} */
function knownOf({ node, routes }, content) {
  return { node, content, routes: routes.map(({ sources }) => ({ sources: sources.map(({ subscribe }) => ({ subscribe })) })) };
}

/** Whether a text is that of a document. */
function same(content, document) {
  try {
    return JSON.stringify(JSON.parse(content)) === JSON.stringify(document.asyncapi);
  } catch {
    return false; // nested too deep to compare
  }
}
