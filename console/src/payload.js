/**
 * From values of features to the messages that carry them: places in a payload, conversions, topics.
 *
 * Paths are those of the configuration (docs/messages.md, "Fields"). A message is made so that the agent reads the
 * values back; nothing here judges them, for that is what the agent is asked to do.
 */
import { captures, fillTemplate } from "./topics.js";
import { isObject } from "./values.js";

/** What is not a position of an array, whatever a path says: nobody has that many. */
const LONGEST_ARRAY = 64;
export const JSON_TYPE = "application/json";

/**
 * @typedef {import("./document.js").Route} Route
 * @typedef {import("./document.js").Source} Source
 * @typedef {{topic: string, payload: string, formats: string[]}} Outgoing
 */

/** What is typed into a field, as JSON has it: a number if it is one, nothing if it is empty, otherwise the text. @param {string} typed */
export function typedValue(typed) {
  const written = typed.trim();
  if (written === "") return undefined;
  if (written === "null") return null;
  if (!/^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/.test(written)) return written;
  return Number.isFinite(Number(written)) ? Number(written) : written;
}

/** What the configuration says of a feature; undefined where it is a key of its own name. @param {Source} source @param {string} name */
const pathOf = (source, name) => (Object.hasOwn(source.fields, name) ? source.fields[name] : undefined);

/** The steps of a path: keys, positions, selectors. @param {any} path @param {string} name that of the feature @returns {string[]} */
export function stepsOf(path, name) {
  if (typeof path === "string") return path.split(".");
  if (Array.isArray(path)) return path.map(String);
  if (isObject(path)) return stepsOf(path.at, name);
  return [name];
}

/** The value as a sensor sends it, before the conversion that a path asks for. @param {any} path @param {any} value */
export function unconverted(path, value) {
  if (!isObject(path)) return value;
  if (path.map !== null && typeof path.map === "object") {
    const word = Object.keys(path.map).find((one) => path.map[one] === value);
    if (word !== undefined) return word;
  }
  if (typeof value !== "number") return value;
  const [scale, offset] = [path.scale, path.offset].map((one) => (typeof one === "number" ? one : null));
  if (scale === null && offset === null) return value;
  return Number(((value - (offset ?? 0)) / (scale || 1)).toPrecision(12));
}

/** An object without a prototype: `__proto__` is a key like any other. @returns {any} */
const bare = () => Object.create(null);

/**
 * Put a value into a document at a place, and return the document.
 * @param {any} document undefined at the beginning @param {string[]} steps @param {any} value
 */
export function put(document, steps, value) {
  if (!steps.length) return value;
  const [step, ...rest] = steps;
  const selector = /^([^=]+)=(.*)$/s.exec(step);
  if (selector && (document === undefined || Array.isArray(document))) {
    const [, key, wanted] = selector;
    const array = document ?? [];
    let element = array.find((one) => one !== null && typeof one === "object" && one[key] === wanted);
    if (!element) {
      element = bare();
      element[key] = wanted;
      array.push(element);
    }
    put(element, rest, value);
    return array;
  }
  if (/^(?:0|[1-9]\d?)$/.test(step) && Number(step) < LONGEST_ARRAY && (document === undefined || Array.isArray(document))) {
    const array = document ?? [];
    while (array.length <= Number(step)) array.push(null);
    array[Number(step)] = put(array[Number(step)] ?? undefined, rest, value);
    return array;
  }
  return putKey(document, step, value, rest);
}

/** The same for a key, whatever is in its name. */
function putKey(document, key, value, rest = []) {
  const target = isObject(document) ? document : bare();
  target[key] = put(target[key], rest, value);
  return target;
}

/** JSON on one line, with spaces where it may be broken. @param {any} value */
function oneLine(value) {
  // Line ends are between the parts only: in a text they are escaped.
  const parts = JSON.stringify(value, null, 1).split("\n").map((part) => part.trimStart());
  return parts.reduce((line, part) => line + (/[[{]$/.test(line) || /^[\]}]/.test(part) ? "" : " ") + part);
}

/** JSON for eyes and for any tool: what could hide in a text is escaped, such as controls and changes of direction. @param {any} value */
export function toJson(value) {
  return oneLine(value).replace(
    /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]/gu,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The names whose values a route's topics and payloads need. @param {Route} route @returns {{name: string, fixed: string | null}[]} */
export function levelsOf(route) {
  const names = new Map();
  for (const source of route.sources) {
    for (const name of [...captures(source.subscribe), ...Object.keys(source.capture)]) {
      if (name !== "feature" || source.form !== "feature") names.set(name, names.get(name) ?? null);
    }
    for (const [name, value] of Object.entries(source.sensor)) names.set(name, value);
  }
  return [...names].map(([name, fixed]) => ({ name, fixed }));
}

/**
 * The messages that carry these values over a route; none for a source that none of them comes from.
 * @param {Route} route
 * @param {Record<string, any>} values of features by name; undefined ones are left out
 * @param {Record<string, string>} levels by name
 * @param {string} [id] what the answer is known by, for those that come on a shared topic
 * @returns {Outgoing[]}
 */
export function messagesOf(route, values, levels, id) {
  const several = route.sources.length > 1;
  return route.sources.flatMap((source) => {
    const has = (name) => !several || Object.hasOwn(source.fields, name);
    const given = route.model.features.filter(({ name }) => has(name) && values[name] !== undefined);
    if (source.form === "sparkplug" || (several && !given.length)) return [];
    return source.form === "feature" ? byLevel(source, given, values, levels) : [asOne(source, given, values, levels, id)];
  });
}

function asOne(source, given, values, levels, id) {
  let document;
  for (const { name } of given) {
    const path = pathOf(source, name);
    const value = unconverted(path, values[name]);
    document = path === undefined ? putKey(document, name, value) : put(document, stepsOf(path, name), value);
  }
  const isDocument = document === undefined || (document !== null && typeof document === "object");
  for (const [name, path] of Object.entries(source.capture)) {
    if (levels[name]) document = put(document, stepsOf(path, name), levels[name]);
  }
  if (id !== undefined && isDocument) document = put(document, stepsOf(pathOf(source, "id"), "id"), id);
  return { topic: fillTemplate(source.subscribe, levels), payload: toJson(document ?? {}), formats: source.formats };
}

function byLevel(source, given, values, levels) {
  const documents = new Map();
  for (const { name } of given) {
    const path = pathOf(source, name);
    const [level, ...rest] = stepsOf(path, name);
    documents.set(level, put(documents.get(level), rest, unconverted(path, values[name])));
  }
  return [...documents].map(([level, document]) => ({
    topic: fillTemplate(source.subscribe, { ...levels, feature: level }),
    // A text alone goes as it is: firmware puts no quotes around it.
    payload: typeof document === "string" ? document : toJson(document),
    formats: source.formats,
  }));
}
