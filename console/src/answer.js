/** What an answer of the agent says (docs/messages.md, "Prediction", "Rejection"). */
import { percent } from "./form.js";
import { isObject } from "./values.js";
import { amount } from "./words.js";

/**
 * @typedef {{kind: "prediction", title: string, note: string, unit: string, bars: {label: string, share: number, chosen: boolean}[],
 *   values: {name: string, value: string, unit: string}[], score: number | null, outside: string[], uncertain: boolean,
 *   alarm: boolean, why: Why | null}} Prediction `alarm`: an anomaly
 * @typedef {{because: string[], otherwise: string, sum: string, shares: {name: string, value: string, share: number, against: boolean}[]}} Why
 * @typedef {{kind: "rejection", title: string, byFeature: Map<string, string[]>, others: string[]}} Rejection
 * @typedef {{kind: "unknown", title: string}} Unknown
 */

/** What the codes of a rejection mean. */
const CODES = {
  invalid_features: "A value is missing, or not what it should be",
  malformed_payload: "The message can't be read",
  payload_too_large: "The message is too large",
  unsupported_content_type: "The agent does not take this content type",
  invalid_topic: "The topic has levels that can't be used",
  model_unavailable: "The model is not served",
  inference_failed: "The model failed on this row",
  undeliverable: "The answer could not be delivered",
};

/** A tree asks about no more features than that on one way; what comes may be from anybody. */
const MOST_CONDITIONS = 100;

const text = (value) => (typeof value === "string" ? value : value === null || value === undefined ? "" : JSON.stringify(value));

/**
 * @param {string} payload @param {import("./document.js").Model} model @param {number | null} [limit] the route's min_confidence
 * @returns {Prediction | Rejection | Unknown}
 */
export function readAnswer(payload, model, limit = null) {
  let answer;
  try {
    answer = JSON.parse(payload);
  } catch {
    return { kind: "unknown", title: "The answer is not JSON" };
  }
  if (Array.isArray(answer)) return { kind: "unknown", title: `A batch of ${answer.length} answers` };
  if (!isObject(answer)) return { kind: "unknown", title: "The answer is not what edge-agent writes" };
  return "error" in answer ? rejection(answer, model) : prediction(answer, model, limit);
}

/** @returns {Rejection} */
function rejection(answer, model) {
  const byFeature = new Map();
  const others = [];
  const names = new Set(model.features.map(({ name }) => name));
  for (const one of Array.isArray(answer.detail) ? answer.detail : [answer.detail]) {
    if (!isObject(one)) {
      if (one !== undefined && one !== null) others.push(text(one));
      continue;
    }
    const place = (Array.isArray(one.loc) ? one.loc : []).map(text);
    const name = place.find((step) => names.has(step));
    const reason = text(one.msg) || text(one.type) || "rejected";
    if (name === undefined) {
      others.push(place.length ? `${place.join(".")}: ${reason}` : reason);
    } else {
      byFeature.set(name, [...(byFeature.get(name) ?? []), reason]);
    }
  }
  const code = text(answer.error);
  return { kind: "rejection", title: Object.hasOwn(CODES, code) ? CODES[code] : code || "rejected", byFeature, others };
}

/** @returns {Prediction | Unknown} */
function prediction(answer, model, limit) {
  const uncertain = answer.uncertain === true;
  const probabilities = isObject(answer.probabilities) ? Object.entries(answer.probabilities) : [];
  const bars = probabilities
    .filter(([, share]) => typeof share === "number")
    .map(([label, share]) => ({ label, share: Math.min(1, Math.max(0, share)), chosen: label === answer.label }))
    .sort((one, other) => other.share - one.share);
  const common = {
    kind: /** @type {const} */ ("prediction"),
    note: "",
    unit: "",
    bars,
    values: [],
    score: typeof answer.score === "number" ? answer.score : null,
    outside: Array.isArray(answer.outside) ? answer.outside.filter((one) => typeof one === "string") : [],
    uncertain,
    alarm: model.task === "anomaly" && answer.label === "anomaly",
    why: reasons(answer.explanation),
  };
  if (uncertain) return { ...common, title: "uncertain", note: doubt(answer.confidence, limit) };
  if ("label" in answer) return { ...common, title: text(answer.label) };
  if ("value" in answer) return { ...common, title: figure(answer.value), unit: text(answer.unit) || (model.outputs[0]?.unit ?? "") };
  if (isObject(answer.values)) {
    const unitOf = (name) => model.outputs.find((one) => one.name === name)?.unit ?? "";
    const values = Object.entries(answer.values).map(([name, value]) => ({ name, value: figure(value), unit: unitOf(name) }));
    return { ...common, title: "", values };
  }
  return { kind: "unknown", title: "The answer is not what edge-agent writes" };
}

/** Why the answer is what it is (docs/explain.md); null where it does not say. @param {any} told @returns {Why | null} */
function reasons(told) {
  if (!isObject(told)) return null;
  const why = { because: [], otherwise: "", sum: "", shares: [] };
  if (told.method === "path") {
    why.because = Array.isArray(told.conditions) ? told.conditions.slice(0, MOST_CONDITIONS).map(text) : [];
    const { nearest } = told;
    const to = isObject(nearest) ? text(nearest.label) || figure(nearest.value) || "another answer" : "";
    why.otherwise = isObject(nearest) ? `It would be ${to} with ${text(nearest.condition)}` : "No single feature would change that";
  } else if (told.method === "shap" && isObject(told.values)) {
    const found = Object.entries(told.values).filter(([, value]) => typeof value === "number");
    const most = Math.max(...found.map(([, value]) => Math.abs(value)), 0) || 1;
    why.sum = `${text(told.scale)} of ${text(told.of)}: ${brief(told.base)} on average in training, ${brief(told.output)} here`;
    why.shares = found.map(([name, value]) => ({ name, value: `${value < 0 ? "" : "+"}${brief(value)}`, share: Math.abs(value) / most, against: value < 0 }));
  } else {
    why.otherwise = `Not explained: ${text(told.reason) || text(told.method)}`;
  }
  return why;
}

/** A number with the digits that somebody reads; "As it came" has all of them. */
const figure = (value) => (typeof value === "number" ? amount(value) : text(value));

/** The digits that fit beside a bar. */
const brief = (value) => (typeof value === "number" ? String(Number(value.toPrecision(3))) : text(value));

/** Why there is no label. @param {unknown} confidence @param {number | null} limit */
function doubt(confidence, limit) {
  const below = `below this route's limit${limit === null ? "" : ` of ${percent(limit)}`} (min_confidence)`;
  if (typeof confidence !== "number" || confidence < 0 || confidence > 1) return `a confidence ${below}`;
  // Rounded down: what is below the limit must not look as if it were not.
  return `confidence ${(Math.floor(1000 * confidence + 1e-9) / 10).toFixed(1)} %, ${below}`;
}

/**
 * The answer to several messages: the last one, or, if that is a rejection, the reasons of all.
 * @param {string[]} payloads the last one first @param {import("./document.js").Model} model @param {number | null} [limit]
 */
export function readAnswers([payload, ...earlier], model, limit = null) {
  const last = readAnswer(payload, model, limit);
  if (last.kind !== "rejection") return last;
  for (const one of earlier.map((each) => readAnswer(each, model))) {
    if (one.kind !== "rejection") break; // to what was known before
    for (const [name, reasons] of one.byFeature) if (!last.byFeature.has(name)) last.byFeature.set(name, reasons);
    last.others.push(...one.others.filter((reason) => !last.others.includes(reason)));
  }
  return last;
}

/** Whether an answer on a topic that others use as well is the one to the message with this id. @param {string} payload @param {string} id */
export function isOurs(payload, id) {
  try {
    const found = JSON.parse(payload)?.id;
    return found === undefined || found === null || found === id;
  } catch {
    return true;
  }
}
