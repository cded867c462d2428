// What a node says of the versions of a model (`edge/{node}/model/{name}`): read, and put into words.

import { count, percent } from "../words.js";
import { number, object, text } from "./answers.js";

/** A state of an update in words, with the version that it is about, and the badge for it. */
const STATES = new Map([
  ["fetching", [(latest) => `fetching ${latest}`, "accent"]],
  ["verified", [(latest) => `${latest} is here and verified`, "accent"]],
  ["testing", [(latest) => `testing ${latest}`, "accent"]],
  ["shadow", [(latest) => `${latest} is asked, too, and does not answer (shadow)`, "accent"]],
  ["canary", [(latest) => `${latest} answers some sensors (canary)`, "accent"]],
  ["committed", [(latest) => `${latest} is installed and watched`, "good"]],
  ["rolled_back", [(latest) => `went back from ${latest}`, "warn"]],
  ["refused", [(latest) => `${latest} refused`, "bad"]],
]);

/**
 * @typedef {{installed: string, latest: string, state: string, reason?: string, summary?: string, percentage?: number, waits: boolean, compared?: string}} Versions
 * @param {any} content an object @returns {Versions | undefined} undefined where there is no version in it
 */
export function readVersions(content) {
  const installed = text(content.installed_version, 64);
  if (installed === undefined) return undefined;
  const state = text(content.state, 20) ?? "";
  return {
    installed,
    latest: text(content.latest_version, 64) ?? installed,
    state,
    reason: text(content.reason, 500),
    summary: text(content.release_summary),
    percentage: number(content.update_percentage),
    // A node that goes on by itself is in progress.
    waits: state === "verified" && content.in_progress === false,
    compared: readCompared(object(content.compared)),
  };
}

function readCompared(said) {
  const agreement = number(said?.agreement);
  const compared = number(said?.compared);
  return agreement === undefined || compared === undefined ? undefined : `${percent(agreement)} of ${count(compared)} answers are the same`;
}

/** The badge for a state. @param {string} state */
export const badge = (state) => STATES.get(state)?.[1] ?? "";

/** What there is to say of an update in words, "" where there is nothing. @param {Versions} versions */
export function words({ installed, latest, state }) {
  const found = STATES.get(state);
  if (found !== undefined) return found[0](latest);
  return latest === installed ? "" : `${latest} is there, not for this node yet`;
}
