/** The state that a node keeps on the broker. */
import { levelError } from "./topics.js";

/** What a node may say of itself, and the badge for it. */
export const STATES = new Map([["online", "good"], ["degraded", "warn"], ["offline", "bad"]]);

/**
 * Be told of each state of a node. Returns what ends it.
 * @param {import("./connection.js").Connection} connection @param {string} node @param {(said: string) => void} told
 */
export function followState(connection, node, told) {
  // A document from a disk may say anything; a filter that a broker takes offense at would end the connection.
  if (levelError(node) !== "") return () => {};
  return connection.subscribe(`edge/${node}/state`, ({ payload }) => told(new TextDecoder().decode(payload)));
}
