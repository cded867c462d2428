/**
 * The document of a node (`edge-agent docs --json`), as the page needs it.
 *
 * It may come from a broker, so from anybody: whatever is not what it should be is left out here, and nowhere else.
 */
import { JSON_TYPE } from "./payload.js";
import { captures } from "./topics.js";
import { list, object } from "./values.js";

/** More than these a page can't show in a blink, and nobody can choose among; what is left out, it says. */
const MOST = { models: 200, routes: 500, sources: 50, features: 1_000, examples: 50, quantiles: 32, values: 1_000, outputs: 1_000, topics: 100 };
/** Choices of all features of a model together. */
const ALL_VALUES = 20_000;

const text = (value, otherwise = "") => (typeof value === "string" ? value : otherwise);
const texts = (value) => list(value).filter((one) => typeof one === "string");
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/**
 * @typedef {"number" | "boolean" | "category"} Kind
 * @typedef {{name: string, kind: Kind, minimum: number | null, maximum: number | null, unit: string, description: string,
 *   quantiles: [number, number][], values: string[], missing: boolean, example: unknown}} Feature
 * @typedef {{title: string, features: Record<string, any>}} Example
 * @typedef {{name: string, version: string, task: string, description: string, features: Feature[],
 *   outputs: {name: string, unit: string}[], threshold: number | null, examples: Example[]}} Model
 * @typedef {{subscribe: string, sensor: Record<string, string>, fields: Record<string, any>, form: "object" | "feature" | "sparkplug",
 *   formats: string[], capture: Record<string, any>}} Source
 * @typedef {{model: Model, publish: string, errors: string, partial: string,
 *   minConfidence: number | null, remembers: boolean, sources: Source[]}} Route
 * @typedef {{node: string, version: string, protocol: string, responseTopics: string[], models: Model[], routes: Route[],
 *   broker: {host: string, protocol: string}, asyncapi: Record<string, any>, isEmbedded: boolean, left: string[]}} NodeDocument
 *   `isEmbedded`: in the page itself, so not from a broker; `left`: what is left out of it, in words
 */

/**
 * Read a document. Raises an Error that says what it is instead.
 * @param {unknown} value what JSON.parse gave @param {boolean} [isEmbedded] whether it is the page's own
 * @returns {NodeDocument}
 */
export function readDocument(value, isEmbedded = false) {
  const asyncapi = object(value);
  if (!asyncapi["x-edge-agent"]) throw new Error("not a document of edge-agent (it has no x-edge-agent)");
  const own = object(asyncapi["x-edge-agent"]);
  /** @type {string[]} */
  const left = [];
  /** The first of a list, and what is told of the others. @param {any[]} all @param {number} most @param {string} what */
  function first(all, most, what) {
    if (all.length > most) left.push(`${most} of ${all.length} ${what}`);
    return all.slice(0, most);
  }
  const models = first(list(own.models), MOST.models, "models").map((model) => readModel(model, first)).filter((model) => model.name && model.features.length);
  const server = object(Object.values(object(asyncapi.servers))[0]);
  return {
    node: text(own.node, "?"),
    version: text(own.version),
    protocol: text(own.protocol, "auto"),
    responseTopics: first(texts(own.response_topics), MOST.topics, "Response Topics"),
    models,
    routes: first(list(own.routes), MOST.routes, "routes").flatMap((route) => readRoute(object(route), models, first)),
    broker: { host: text(server.host), protocol: text(server.protocol) },
    asyncapi,
    isEmbedded,
    left,
  };
}

/** @returns {Model} */
function readModel(value, first) {
  const model = object(value);
  const of = `of ${text(model.name)}`;
  let room = ALL_VALUES;
  const features = first(list(model.features), MOST.features, `features ${of}`).map((one) => {
    const feature = readFeature(one, room, first);
    room -= feature.values.length;
    return feature;
  });
  return {
    name: text(model.name),
    version: text(model.version),
    task: text(model.task, "classification"),
    description: text(model.description),
    features: features.filter((feature) => feature.name),
    outputs: first(list(model.outputs), MOST.outputs, `outputs ${of}`).map((one) => ({ name: text(object(one).name), unit: text(object(one).unit) })),
    threshold: number(model.threshold),
    examples: first(list(model.examples), MOST.examples, `examples ${of}`).map((one) => ({
      title: text(object(one).title, "example"),
      features: object(object(one).features),
    })),
  };
}

/** @returns {Feature} */
function readFeature(value, room, first) {
  const feature = object(value);
  const of = `of the feature ${text(feature.name)}`;
  const quantiles = first(list(feature.quantiles), MOST.quantiles, `quantiles ${of}`).filter((pair) => number(list(pair)[0]) !== null && number(list(pair)[1]) !== null);
  return {
    name: text(feature.name),
    kind: ["boolean", "category"].includes(feature.kind) ? feature.kind : "number",
    minimum: number(feature.minimum),
    maximum: number(feature.maximum),
    unit: text(feature.unit),
    description: text(feature.description),
    quantiles: quantiles.sort((one, other) => one[0] - other[0]),
    values: first(texts(feature.values), Math.min(room, MOST.values), `choices ${of}`),
    missing: feature.missing === true,
    example: feature.example,
  };
}

/** @param {Model[]} models @returns {Route[]} */
function readRoute(route, models, first) {
  const model = models.find(({ name }) => name === route.model);
  const sources = first(list(route.sources), MOST.sources, `sources of the route to ${text(route.publish)}`).map(readSource).filter(({ subscribe }) => subscribe);
  if (!model || !sources.length || !text(route.publish)) return [];
  const byFeature = sources.some(({ form }) => form === "feature");
  return [
    {
      model,
      publish: route.publish,
      errors: text(route.errors, `${route.publish}/error`),
      partial: text(route.partial, "reject"),
      minConfidence: number(route.min_confidence),
      // Values of several messages make one row; a Response Topic is not followed then.
      remembers: byFeature || sources.length > 1 || route.partial === "merge",
      sources,
    },
  ];
}

/** @returns {Source} */
function readSource(value) {
  const source = object(value);
  const subscribe = text(source.subscribe);
  const sensor = Object.entries(object(source.sensor)).filter(([, one]) => typeof one === "string");
  const form = source.form === "sparkplug" || source.form === "feature" ? source.form : "object";
  return {
    subscribe,
    sensor: Object.fromEntries(sensor),
    fields: object(source.fields),
    form: form === "feature" && !captures(subscribe).includes("feature") ? "object" : form,
    formats: texts(source.formats).length ? texts(source.formats) : [JSON_TYPE],
    capture: object(source.capture),
  };
}
