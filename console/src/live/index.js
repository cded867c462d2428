/** The live view of all nodes on the broker. */
import { h } from "../dom.js";

/**
 * @param {HTMLElement} root an empty element that is the view's own
 * @param {import("../connection.js").Connection} connection
 * @returns {{ shown(visible: boolean): void, close(): void }}
 */
export function mount(root, connection) {
  const line = root.appendChild(h("p"));
  const end = connection.watch(({ state }) => (line.textContent = state === "online" ? "" : "Connect to a broker to see its nodes."));
  return { shown() {}, close: end };
}
