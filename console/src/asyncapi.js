/** AsyncAPI 3.0 taken apart for reading: channels with what goes which way, and schemas as rows. */

import { toJson } from "./payload.js";

/** Schemas may refer to themselves, and come from anybody. */
const DEEPEST = 4;
const MOST_ROWS = 200;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const object = (value) => (isObject(value) ? value : {});
const text = (value) => (typeof value === "string" ? value : "");
const list = (value) => (Array.isArray(value) ? value : []);

/** What a reference within the document leads to, over at most a few steps. @param {any} document @param {any} value */
export function resolve(document, value) {
  let found = value;
  for (let step = 0; step < 8 && isObject(found) && typeof found.$ref === "string"; step++) {
    if (!found.$ref.startsWith("#/")) return {};
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
 * @typedef {{contentTypes: string[], title: string, rows: Row[], about: string, examples: string[]}} Message
 * @typedef {{address: string, about: string, parameters: {name: string, about: string}[], messages: Message[], qos: number | null,
 *   retain: boolean, answered: boolean}} Channel
 * @typedef {{name: "takes" | "answers" | "tells", title: string, channels: Channel[]}} Group
 */

/** The channels of a document, in the order in which people ask for them. @param {any} document @returns {Group[]} */
export function groupsOf(document) {
  /** @type {Record<"takes" | "answers" | "tells", Channel[]>} */
  const found = { takes: [], answers: [], tells: [] };
  const node = text(object(document["x-edge-agent"]).node);
  for (const operation of Object.values(object(document.operations)).map(object)) {
    const channel = resolve(document, operation.channel);
    const address = text(channel.address);
    if (!address) continue;
    const binding = object(object(operation.bindings).mqtt);
    const own = address.startsWith(`edge/${node}/`) || address.startsWith("edge/");
    found[own ? "tells" : operation.action === "receive" ? "takes" : "answers"].push({
      address,
      about: text(channel.description) || text(operation.summary),
      parameters: Object.entries(object(channel.parameters)).map(([name, one]) => ({ name, about: parameter(object(one)) })),
      messages: together(Object.values(object(channel.messages)).map((message) => messageOf(document, resolve(document, message)))),
      qos: typeof binding.qos === "number" ? binding.qos : null,
      retain: binding.retain === true,
      answered: isObject(operation.reply),
    });
  }
  return [
    { name: "takes", title: "What it takes", channels: found.takes },
    { name: "answers", title: "What it answers", channels: found.answers },
    { name: "tells", title: "The node itself", channels: found.tells },
  ].filter(({ channels }) => channels.length);
}

function parameter({ description, enum: values }) {
  const choices = list(values).filter((one) => typeof one === "string");
  return [text(description), choices.length ? `One of ${choices.slice(0, 20).join(", ")}.` : ""].filter(Boolean).join(" ");
}

/** @returns {Message} */
function messageOf(document, message) {
  const schema = resolve(document, message.payload);
  return {
    contentTypes: [text(message.contentType) || text(document.defaultContentType)],
    title: text(message.title),
    rows: rowsOf(document, schema).slice(0, MOST_ROWS),
    about: text(schema.description),
    examples: list(message.examples).filter((one) => object(one).payload !== undefined).map(({ payload }) => toJson(payload)),
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

/** The properties of a schema, those inside others by their path. @returns {Row[]} */
export function rowsOf(document, schema, path = "", deep = 0) {
  if (deep > DEEPEST) return [];
  const resolved = resolve(document, schema);
  const properties = Object.entries(object(resolved.properties));
  const required = new Set(list(resolved.required));
  const rows = properties.flatMap(([name, value]) => {
    const one = resolve(document, value);
    const at = path ? `${path}.${name}` : name;
    const row = { path: at, type: typeOf(document, one), limits: limitsOf(one), about: text(one.description), required: required.has(name) };
    return [row, ...rowsOf(document, one, at, deep + 1)];
  });
  if (rows.length) return rows;
  // One of several: the first that is an object is what people send.
  for (const choice of [...list(resolved.anyOf), ...list(resolved.oneOf), ...list(resolved.allOf)]) {
    const found = rowsOf(document, choice, path, deep + 1);
    if (found.length) return found;
  }
  return isObject(resolved.items) ? rowsOf(document, resolved.items, `${path}[]`, deep + 1) : [];
}

function typeOf(document, schema) {
  const type = schema.type;
  if (typeof type === "string") return type;
  if (Array.isArray(type)) return type.filter((one) => typeof one === "string").join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (list(schema.enum).length) return "one of";
  const kinds = [...list(schema.anyOf), ...list(schema.oneOf)].map((one) => typeOf(document, resolve(document, one)));
  return [...new Set(kinds.filter(Boolean))].join(" or ") || (isObject(schema.properties) ? "object" : "");
}

function limitsOf(schema) {
  const values = list(schema.enum).map((one) => (typeof one === "string" ? one : JSON.stringify(one)));
  const low = [schema.minimum, schema.exclusiveMinimum].find((one) => typeof one === "number");
  const high = [schema.maximum, schema.exclusiveMaximum].find((one) => typeof one === "number");
  const unit = text(schema["x-unit"]) || text(schema.unit);
  const bounds = low !== undefined && high !== undefined ? `${low} to ${high}` : low !== undefined ? `from ${low}` : high !== undefined ? `up to ${high}` : "";
  return [bounds, unit, values.length ? values.slice(0, 24).join(", ") + (values.length > 24 ? ", …" : "") : ""].filter(Boolean).join(" ");
}
