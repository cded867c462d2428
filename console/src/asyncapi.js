/** AsyncAPI 3.0 taken apart for reading: channels with what goes which way, and schemas as rows. */

import { toJson } from "./payload.js";
import { isObject, list, object } from "./values.js";

/**
 * Schemas may refer to themselves, and come from anybody: no document, whatever is in it, takes longer than these allow.
 * Rows and steps are counted while they are made, for a few KB of references make any number of them.
 */
const DEEPEST = 4;
const MOST_ROWS = 200;
const MOST_STEPS = 2_000;
const MOST_BRANCHES = 32;
const MOST_CHANNELS = 1_000;
const MOST_MESSAGES = 20;
const MOST_PARAMETERS = 50;
const MOST_VALUES = 24;
const LONGEST_TEXT = 2_000;
/** Of all channels together: rows, and characters of examples. */
const ALL_ROWS = 20_000;
const ALL_EXAMPLES = 2_000_000;

const clip = (value) => (value.length > LONGEST_TEXT ? `${value.slice(0, LONGEST_TEXT)}…` : value);
const text = (value) => (typeof value === "string" ? clip(value) : "");

/** What a reference within the document leads to, over at most a few steps. @param {any} document @param {any} value */
export function resolve(document, value) {
  let found = value;
  for (let step = 0; step < 8 && isObject(found) && typeof found.$ref === "string"; step++) {
    if (!found.$ref.startsWith("#/") || found.$ref.length > LONGEST_TEXT) return {};
    const keys = found.$ref.slice(2).split("/").map((key) => decode(key).replaceAll("~1", "/").replaceAll("~0", "~"));
    found = keys.reduce((inner, key) => (isObject(inner) && Object.hasOwn(inner, key) ? inner[key] : undefined), document);
  }
  return object(found);
}

function decode(key) {
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}

/**
 * @typedef {{path: string, type: string, limits: string, about: string, required: boolean}} Row
 * @typedef {{contentTypes: string[], rows: Row[], about: string, examples: string[], more: boolean}} Message `more`: rows that are left out
 * @typedef {{address: string, about: string, parameters: {name: string, about: string}[], messages: Message[], qos: number | null,
 *   retain: boolean, answered: boolean}} Channel
 * @typedef {{name: "takes" | "answers" | "tells", title: string, channels: Channel[], more: boolean}} Group `more`: channels that are left out
 */

/** The channels of a document, in the order in which people ask for them. @param {any} document @returns {Group[]} */
export function groupsOf(document) {
  /** @type {Record<"takes" | "answers" | "tells", Channel[]>} */
  const found = { takes: [], answers: [], tells: [] };
  const room = { rows: ALL_ROWS, examples: ALL_EXAMPLES };
  const operations = Object.values(object(document.operations));
  for (const operation of operations.slice(0, MOST_CHANNELS).map(object)) {
    const channel = resolve(document, operation.channel);
    const address = text(channel.address);
    if (!address) continue;
    const binding = object(object(operation.bindings).mqtt);
    const own = address.startsWith("edge/");
    found[own ? "tells" : operation.action === "receive" ? "takes" : "answers"].push({
      address,
      about: text(channel.description) || text(operation.summary),
      parameters: Object.entries(object(channel.parameters)).slice(0, MOST_PARAMETERS).map(([name, one]) => ({ name, about: parameter(object(one)) })),
      messages: together(
        Object.values(object(channel.messages)).slice(0, MOST_MESSAGES).map((message) => messageOf(document, resolve(document, message), room)),
      ),
      qos: typeof binding.qos === "number" ? binding.qos : null,
      retain: binding.retain === true,
      answered: isObject(operation.reply),
    });
  }
  const titles = /** @type {const} */ ([["takes", "What it takes"], ["answers", "What it answers"], ["tells", "The node itself"]]);
  const groups = titles.map(([name, title]) => ({ name, title, channels: found[name], more: false })).filter(({ channels }) => channels.length);
  if (groups.length) groups[groups.length - 1].more = operations.length > MOST_CHANNELS;
  return groups;
}

function parameter({ description, enum: values }) {
  const choices = list(values).filter((one) => typeof one === "string");
  return [text(description), choices.length ? `One of ${choices.slice(0, MOST_VALUES).map(clip).join(", ")}.` : ""].filter(Boolean).join(" ");
}

/** @param {{rows: number, examples: number}} room what is left for all messages; taken from @returns {Message} */
function messageOf(document, message, room) {
  const schema = resolve(document, message.payload);
  const rows = rowsOf(document, schema, Math.min(MOST_ROWS + 1, room.rows));
  room.rows -= rows.length;
  const examples = [];
  for (const one of list(message.examples).slice(0, MOST_MESSAGES)) {
    if (object(one).payload === undefined || room.examples <= 0) continue;
    const example = toJson(one.payload);
    room.examples -= example.length;
    examples.push(example.length > 10 * LONGEST_TEXT ? `${example.slice(0, 10 * LONGEST_TEXT)}…` : example);
  }
  return {
    contentTypes: [text(message.contentType) || text(document.defaultContentType)],
    rows: rows.slice(0, MOST_ROWS),
    more: rows.length > MOST_ROWS || room.rows <= 0,
    about: text(schema.description),
    examples,
  };
}

/** What is the same but for its content type, once. @param {Message[]} messages @returns {Message[]} */
function together(messages) {
  const found = new Map();
  for (const message of messages) {
    const key = JSON.stringify([message.rows, message.about]);
    const same = found.get(key);
    if (same && message.rows.length) {
      same.contentTypes.push(...message.contentTypes);
      same.examples = same.examples.length ? same.examples : message.examples;
    } else found.set(message.rows.length ? key : message, message);
  }
  return [...found.values()];
}

/** The properties of a schema, those inside others by their path, up to so many. @returns {Row[]} */
export function rowsOf(document, schema, most = MOST_ROWS) {
  return within(document, schema, "", [], { rows: most, steps: MOST_STEPS });
}

/** @param {any[]} above the schemas that this one is in: one that is in itself is not opened again @returns {Row[]} */
function within(document, schema, path, above, left) {
  const resolved = resolve(document, schema);
  if (above.length > DEEPEST || above.includes(resolved) || left.rows <= 0 || left.steps-- <= 0) return [];
  const here = [...above, resolved];
  const rows = [];
  for (const [name, value] of Object.entries(object(resolved.properties))) {
    if (left.rows-- <= 0) break;
    const one = resolve(document, value);
    const at = path ? `${path}.${clip(name)}` : clip(name);
    rows.push({ path: at, ...wordsOf(document, one), required: list(resolved.required).includes(name) });
    rows.push(...within(document, one, at, here, left));
  }
  if (rows.length) return rows;
  // One of several: the first that is an object is what people send.
  for (const choices of [resolved.anyOf, resolved.oneOf, resolved.allOf]) {
    for (const choice of list(choices).slice(0, MOST_BRANCHES)) {
      const found = within(document, choice, path, here, left);
      if (found.length) return found;
    }
  }
  return isObject(resolved.items) ? within(document, resolved.items, `${path}[]`, here, left) : [];
}

/** What a value may be. A schema of several says of itself what it can, and the rest by the first of them that says it. */
function wordsOf(document, schema) {
  const branches = branchesOf(document, schema);
  const [self, ...others] = branches;
  const given = [self, ...others.filter((one) => !isNothing(one))];
  const kinds = [...new Set(given.map(typeOf).filter(Boolean))];
  if (given.length < branches.length) kinds.push("no value");
  const first = (read) => given.map(read).find(Boolean) ?? "";
  return {
    type: typeOf(self) || kinds.join(" or ") || (isObject(schema.properties) ? "object" : ""),
    limits: [first(boundsOf), first((one) => text(one["x-unit"]) || text(one.unit)), first(valuesOf)].filter(Boolean).join(" "),
    about: first((one) => text(one.description)),
  };
}

/** A schema and those that it is one of, the nearest first. */
function branchesOf(document, schema) {
  const found = [schema];
  for (const one of found) {
    for (const choice of [...list(one.anyOf).slice(0, MOST_BRANCHES), ...list(one.oneOf).slice(0, MOST_BRANCHES)]) {
      const branch = resolve(document, choice);
      if (found.length < MOST_BRANCHES && !found.includes(branch)) found.push(branch);
    }
  }
  return found;
}

/** The words that firmware sends instead of a value, null among them. */
const isNothing = ({ enum: values }) => list(values).includes(null);

function typeOf(schema) {
  const type = schema.type;
  if (typeof type === "string") return clip(type);
  if (Array.isArray(type)) return type.slice(0, MOST_VALUES).filter((one) => typeof one === "string").map(clip).join(" or ");
  if (schema.const !== undefined) return clip(JSON.stringify(schema.const));
  return list(schema.enum).length ? "one of" : "";
}

function boundsOf(schema) {
  const low = [schema.minimum, schema.exclusiveMinimum].find((one) => typeof one === "number");
  const high = [schema.maximum, schema.exclusiveMaximum].find((one) => typeof one === "number");
  if (low !== undefined && high !== undefined) return `${low} to ${high}`;
  return low !== undefined ? `from ${low}` : high !== undefined ? `up to ${high}` : "";
}

function valuesOf(schema) {
  const values = list(schema.enum);
  const shown = values.slice(0, MOST_VALUES).map((one) => clip(typeof one === "string" ? one : JSON.stringify(one)));
  return shown.join(", ") + (values.length > MOST_VALUES ? ", …" : "");
}
