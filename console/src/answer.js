/** What an answer of the agent says (docs/messages.md, "Prediction", "Rejection"). */

/**
 * @typedef {{kind: "prediction", title: string, note: string, unit: string, bars: {label: string, share: number, chosen: boolean}[],
 *   values: {name: string, value: string, unit: string}[], score: number | null, outside: string[], uncertain: boolean,
 *   model: string}} Prediction
 * @typedef {{kind: "rejection", title: string, byFeature: Map<string, string[]>, others: string[], input: Map<string, string>}} Rejection
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

const text = (value) => (typeof value === "string" ? value : value === null || value === undefined ? "" : JSON.stringify(value));
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** @param {string} payload @param {import("./document.js").Model} model @returns {Prediction | Rejection | Unknown} */
export function readAnswer(payload, model) {
  let answer;
  try {
    answer = JSON.parse(payload);
  } catch {
    return { kind: "unknown", title: "The answer is not JSON" };
  }
  if (Array.isArray(answer)) return { kind: "unknown", title: `A batch of ${answer.length} answers` };
  if (!isObject(answer)) return { kind: "unknown", title: "The answer is not what edge-agent writes" };
  return "error" in answer ? rejection(answer, model) : prediction(answer, model);
}

/** @returns {Rejection} */
function rejection(answer, model) {
  const byFeature = new Map();
  const input = new Map();
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
      if ("input" in one) input.set(name, text(one.input));
    }
  }
  const code = text(answer.error);
  return { kind: "rejection", title: Object.hasOwn(CODES, code) ? CODES[code] : code || "rejected", byFeature, others, input };
}

/** @returns {Prediction | Unknown} */
function prediction(answer, model) {
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
    model: [answer.model, answer.version].filter((one) => typeof one === "string").join(" "),
  };
  if (uncertain) return { ...common, title: "uncertain", note: `confidence ${text(answer.confidence)} is below the route's min_confidence` };
  if ("label" in answer) return { ...common, title: text(answer.label) };
  if ("value" in answer) return { ...common, title: text(answer.value), unit: text(answer.unit) || (model.outputs[0]?.unit ?? "") };
  if (isObject(answer.values)) {
    const unitOf = (name) => model.outputs.find((one) => one.name === name)?.unit ?? "";
    const values = Object.entries(answer.values).map(([name, value]) => ({ name, value: text(value), unit: unitOf(name) }));
    return { ...common, title: "", values };
  }
  return { kind: "unknown", title: "The answer is not what edge-agent writes" };
}

/**
 * The answer to several messages: the last one, or, if that is a rejection, the reasons of all.
 * @param {string[]} payloads the last one first @param {import("./document.js").Model} model
 */
export function readAnswers([payload, ...earlier], model) {
  const last = readAnswer(payload, model);
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
