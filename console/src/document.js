/**
 * The document of a node (`edge-agent docs --json`), as the page needs it.
 *
 * It may come from a broker, so from anybody: whatever is not what it should be is left out here, and nowhere else.
 */
import { captures } from "./topics.js";

/** @param {unknown} value @returns {Record<string, any>} */
const object = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});
/** @param {unknown} value @returns {any[]} */
const list = (value) => (Array.isArray(value) ? value : []);
const text = (value, otherwise = "") => (typeof value === "string" ? value : otherwise);
const texts = (value) => list(value).filter((one) => typeof one === "string");
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/**
 * @typedef {"number" | "boolean" | "category"} Kind
 * @typedef {{name: string, kind: Kind, minimum: number | null, maximum: number | null, unit: string, description: string,
 *   quantiles: [number, number][], values: string[], missing: boolean, example: unknown}} Feature
 * @typedef {{title: string, features: Record<string, any>}} Example
 * @typedef {{name: string, version: string, sha256: string, task: string, description: string, features: Feature[],
 *   labels: string[], outputs: {name: string, unit: string}[], threshold: number | null, confidence: boolean,
 *   examples: Example[]}} Model
 * @typedef {{subscribe: string, sensor: Record<string, string>, fields: Record<string, any>, form: "object" | "feature" | "sparkplug",
 *   formats: string[], capture: Record<string, any>, levels: Record<string, string[]> | null}} Source
 * @typedef {{model: Model, publish: string, errors: string, retain: boolean, partial: string, outside: string,
 *   minConfidence: number | null, remembers: boolean, sources: Source[]}} Route
 * @typedef {{node: string, version: string, protocol: string, responseTopics: string[], models: Model[], routes: Route[],
 *   broker: {host: string, protocol: string}, asyncapi: Record<string, any>}} NodeDocument
 */

/**
 * Read a document. Raises an Error that says what it is instead.
 * @param {unknown} value what JSON.parse gave
 * @returns {NodeDocument}
 */
export function readDocument(value) {
  const asyncapi = object(value);
  if (!asyncapi["x-edge-agent"]) throw new Error("not a document of edge-agent (it has no x-edge-agent)");
  const own = object(asyncapi["x-edge-agent"]);
  const models = list(own.models).map(readModel).filter((model) => model.name && model.features.length);
  const server = object(Object.values(object(asyncapi.servers))[0]);
  return {
    node: text(own.node, "?"),
    version: text(own.version),
    protocol: text(own.protocol, "auto"),
    responseTopics: texts(own.response_topics),
    models,
    routes: list(own.routes).flatMap((route) => readRoute(object(route), models)),
    broker: { host: text(server.host), protocol: text(server.protocol) },
    asyncapi,
  };
}

/** @returns {Model} */
function readModel(value) {
  const model = object(value);
  return {
    name: text(model.name),
    version: text(model.version),
    sha256: text(model.sha256),
    task: text(model.task, "classification"),
    description: text(model.description),
    features: list(model.features).map(readFeature).filter((feature) => feature.name),
    labels: texts(model.labels),
    outputs: list(model.outputs).map((one) => ({ name: text(object(one).name), unit: text(object(one).unit) })),
    threshold: number(model.threshold),
    confidence: model.confidence !== false,
    examples: list(model.examples).map((one) => ({
      title: text(object(one).title, "example"),
      features: object(object(one).features),
    })),
  };
}

/** @returns {Feature} */
function readFeature(value) {
  const feature = object(value);
  const quantiles = list(feature.quantiles).filter((pair) => number(list(pair)[0]) !== null && number(list(pair)[1]) !== null);
  return {
    name: text(feature.name),
    kind: ["boolean", "category"].includes(feature.kind) ? feature.kind : "number",
    minimum: number(feature.minimum),
    maximum: number(feature.maximum),
    unit: text(feature.unit),
    description: text(feature.description),
    quantiles: quantiles.sort((one, other) => one[0] - other[0]),
    values: texts(feature.values),
    missing: feature.missing === true,
    example: feature.example,
  };
}

/** @param {Model[]} models @returns {Route[]} */
function readRoute(route, models) {
  const model = models.find(({ name }) => name === route.model);
  const sources = list(route.sources).map(readSource).filter(({ subscribe }) => subscribe);
  if (!model || !sources.length || !text(route.publish)) return [];
  const byFeature = sources.some(({ form }) => form === "feature");
  return [
    {
      model,
      publish: route.publish,
      errors: text(route.errors, `${route.publish}/error`),
      retain: route.retain === true,
      partial: text(route.partial, "reject"),
      outside: text(route.outside),
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
  const levels = Object.entries(object(source.levels)).map(([level, names]) => [level, texts(names)]);
  const form = source.form === "sparkplug" || source.form === "feature" ? source.form : "object";
  return {
    subscribe,
    sensor: Object.fromEntries(sensor),
    fields: object(source.fields),
    form: form === "feature" && !captures(subscribe).includes("feature") ? "object" : form,
    formats: texts(source.formats).length ? texts(source.formats) : ["application/json"],
    capture: object(source.capture),
    levels: levels.length ? Object.fromEntries(levels) : null,
  };
}
