// Answers and rejections as they come, made into plain rows with bounded texts. Nothing here trusts what it reads.
//
// A row has what the message says of: `label` (text, or null when uncertain), `value` and `unit`, `values`, `score`, `confidence`,
// `outside` (names), `uncertain`, `error` and `reason`, `model`, `version`, `sensor`; or `unread`, why it can't be read.

import { isObject } from "../values.js";

const MOST_BYTES = 256 * 1024;
const MOST_TEXT = 200;
const MOST_ROWS = 10000;
const MOST_NAMES = 32;
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A text from the wire, cut where it is too long; undefined for anything else. */
export function text(value, most = MOST_TEXT) {
  if (typeof value !== "string") return undefined;
  return value.length > most ? `${value.slice(0, most - 1)}…` : value;
}

export function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** A probability; what is none is not known. */
function share(value) {
  return number(value) !== undefined && value >= 0 && value <= 1 ? value : undefined;
}

/** An object from JSON, undefined for everything else. */
export function object(value) {
  return isObject(value) ? value : undefined;
}

/** The JSON of a payload, undefined when it is none. */
export function json(payload) {
  try {
    return JSON.parse(decoder.decode(payload));
  } catch {
    return undefined;
  }
}

/** The rows of one message: one, or those of a batch. */
export function rows(payload, contentType) {
  if (payload.length === 0) return [];
  if (payload.length > MOST_BYTES) return [{ unread: `${Math.round(payload.length / 1024)} KiB, too long to show` }];
  const content = json(payload);
  if (content === undefined) return [{ unread: `not JSON${contentType ? ` (${text(contentType, 60)})` : ""}` }];
  if (Array.isArray(content)) {
    if (content.some((one) => typeof one?.n === "string" && one.model === undefined)) return senml(content);
    return content.slice(0, MOST_ROWS).map(row);
  }
  return [row(content)];
}

function row(content) {
  const said = object(content);
  if (said === undefined) return { unread: "not an answer" };
  const common = { model: text(said.model), version: text(said.version, 60), sensor: text(said.sensor) };
  if (typeof said.error === "string") return { ...common, error: text(said.error, 60), reason: reason(said.detail) };
  const made = {
    ...common,
    label: said.label === null ? null : text(said.label),
    value: number(said.value),
    unit: text(said.unit, 20),
    score: number(said.score),
    confidence: share(said.confidence),
    uncertain: said.uncertain === true,
    outside: names(said.outside),
  };
  const values = object(said.values);
  if (values !== undefined) {
    made.values = Object.entries(values)
      .filter(([, one]) => number(one) !== undefined)
      .slice(0, 8)
      .map(([name, one]) => [text(name, 60), one]);
    made.value = made.values[0]?.[1];
  }
  if (made.label === undefined && made.value === undefined) return { unread: "not an answer" };
  return made;
}

function names(value) {
  return Array.isArray(value) ? value.slice(0, MOST_NAMES).map((one) => text(one, 60)).filter(Boolean) : [];
}

/** The first reason of a rejection, with its place, and how many more there are. */
function reason(detail) {
  if (!Array.isArray(detail) || object(detail[0]) === undefined) return "";
  const place = Array.isArray(detail[0].loc) ? detail[0].loc.slice(0, 4).filter((one) => typeof one === "string" || typeof one === "number").join(".") : "";
  const more = detail.length > 1 ? ` (and ${detail.length - 1} more)` : "";
  return text(`${place ? `${place}: ` : ""}${text(detail[0].msg) ?? ""}${more}`);
}

/** Records of SenML (docs/messages.md, "SenML"): each answer is a run of them, and the model stands behind what it says. */
function senml(records) {
  const made = [];
  let current;
  for (const record of records.slice(0, MOST_ROWS)) {
    const name = object(record)?.n;
    if (typeof name !== "string") continue;
    if (/^(label|uncertain|error|value(\/.*)?)$/.test(name) && (current === undefined || current.model !== undefined)) {
      current = { outside: [], uncertain: false };
      made.push(current);
    }
    if (current === undefined) continue;
    if (name === "label" || name === "model") current[name] = text(record.vs);
    else if (name === "error" || name === "version" || name === "sensor") current[name] = text(record.vs, 60);
    else if (name === "confidence") current.confidence = share(record.v);
    else if (name === "score") current.score = number(record.v);
    else if (name === "value" || name.startsWith("value/")) current.value ??= number(record.v);
    else if (name === "uncertain") Object.assign(current, { label: null, uncertain: true });
    else if (name === "outside") current.outside = names(inside(record.vs));
    else if (name === "detail") current.reason = reason(inside(record.vs));
  }
  return made.length > 0 ? made : [{ unread: "SenML without an answer" }];
}

/** What a text of JSON holds. */
function inside(value) {
  try {
    return JSON.parse(value);
  } catch {
    return undefined;
  }
}
