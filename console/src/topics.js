/** Topics, filters, and the agent's templates (`music/{sensor}/features`), without a broker. */

/** A capture of one level, or of several with `...`. */
const CAPTURE = /\{([A-Za-z_]\w*)(\.\.\.)?\}/g;

/** The names in a template, in its order. @param {string} template @returns {string[]} */
export function captures(template) {
  return [...template.matchAll(CAPTURE)].map(([, name]) => name);
}

/** Whether a capture of this name takes several levels. @param {string} template @param {string} name */
export const takesSeveral = (template, name) => template.includes(`{${name}...}`);

/**
 * Fill in a template; names without a value stay as they are.
 * @param {string} template @param {Record<string, string>} values
 */
export function fillTemplate(template, values) {
  return template.replace(CAPTURE, (all, name) => (Object.hasOwn(values, name) && values[name] !== "" ? values[name] : all));
}

/** The filter that takes all topics of a template. @param {string} template */
export function filterOf(template) {
  return template.replace(CAPTURE, (_, __, several) => (several ? "#" : "+"));
}

/** Whether a topic filter takes a topic (MQTT 5, 4.7). @param {string} filter @param {string} topic */
export function matches(filter, topic) {
  const wanted = filter.split("/");
  const levels = topic.split("/");
  if (topic.startsWith("$") && /^[+#]/.test(filter)) return false;
  for (const [place, level] of wanted.entries()) {
    if (level === "#") return true;
    if (place >= levels.length || (level !== "+" && level !== levels[place])) return false;
  }
  return wanted.length === levels.length;
}

/**
 * The other nodes that would take a message on one of these topics: who answers it first is not known.
 * @param {import("./nodes.js").Known[]} documents @param {string} node @param {string[]} topics
 */
export function alsoTaking(documents, node, topics) {
  const takes = ({ subscribe }) => topics.some((topic) => matches(filterOf(subscribe), topic));
  return documents.filter((one) => one.node !== node && one.routes.some(({ sources }) => sources.some(takes))).map((one) => one.node);
}

/**
 * What is wrong with a value for a level of a topic; empty when nothing is.
 * @param {string} value @param {boolean} [several] whether it may have slashes
 */
export function levelError(value, several = false) {
  if (value === "") return "needed for the topic";
  if (/[+#]/.test(value)) return "+ and # are wildcards, and can't be in a topic";
  if (!several && value.includes("/")) return "one level has no /";
  if (several && value.split("/").includes("")) return "a level is empty";
  if (/[\u0000-\u001f\u007f-\u009f]/.test(value)) return "has a control character";
  return "";
}

/** A Response Topic that the node follows; null if it follows none that a page could have. @param {string[]} filters @param {string} id */
export function responseTopic(filters, id) {
  const candidates = [`try/${id}`, `page-${id}/response/try`];
  const own = filters.filter((filter) => filter.includes("#")).map((filter) => filter.replaceAll("+", `page-${id}`).replace("#", id));
  return [...candidates, ...own].find((topic) => !topic.startsWith("$") && filters.some((filter) => matches(filter, topic))) ?? null;
}
