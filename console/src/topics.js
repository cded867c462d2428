/** Topics, filters, and the agent's templates (`music/{sensor}/features`), without a broker. */

/** A capture of one level, or of several with `...` (edge_agent/contract/templates.py). */
const CAPTURE = /\{([A-Za-z_]\w*)(\.\.\.)?\}/g;
const LEVEL = new RegExp(`^${CAPTURE.source}$`);
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

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

/** The filter that takes all topics of a template; what stands behind a `{name...}` can't be said in one. @param {string} template */
export function filterOf(template) {
  return template.replace(CAPTURE, (_, __, several) => (several ? "#" : "+")).replace(/#.*/s, "#");
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
  if (CONTROL.test(value)) return "has a control character";
  return "";
}

/** A Response Topic that the node follows; null if it follows none that a page could have. @param {string[]} filters @param {string} id */
export function responseTopic(filters, id) {
  const candidates = [`try/${id}`, `page-${id}/response/try`];
  const own = filters.filter((filter) => filter.includes("#")).map((filter) => filter.replaceAll("+", `page-${id}`).replace("#", id));
  return [...candidates, ...own].find((topic) => !topic.startsWith("$") && filters.some((filter) => matches(filter, topic))) ?? null;
}

/** A template that many topics are held against: its filter, and the levels that it captures of a topic. */
export class Template {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
    this.filter = filterOf(text);
    this.levels = text.split("/").map((level) => {
      const capture = LEVEL.exec(level);
      if (capture === null) return { text: level, wild: false, rest: false };
      return { text: capture[1], wild: true, rest: capture[2] !== undefined };
    });
    this.rest = this.levels.findIndex((level) => level.rest);
  }

  /** Whether it can be subscribed to: a node that sends nonsense must not cost the connection. */
  get sound() {
    return (
      this.text !== "" &&
      this.text.length < 1024 &&
      !this.text.startsWith("$") &&
      !CONTROL.test(this.text) &&
      this.levels.every((level) => level.wild || !/[+#{}]/.test(level.text))
    );
  }

  /** The captured levels of a topic in their order, or null when it does not match. */
  match(topic) {
    let theirs = topic.split("/");
    if (this.rest >= 0) {
      const ends = theirs.length - (this.levels.length - 1 - this.rest);
      if (ends <= this.rest) return null;
      theirs = [...theirs.slice(0, this.rest), theirs.slice(this.rest, ends).join("/"), ...theirs.slice(ends)];
    } else if (theirs.length !== this.levels.length) {
      return null;
    }
    const captured = [];
    for (let at = 0; at < this.levels.length; at += 1) {
      const level = this.levels[at];
      if (level.wild) {
        if (level.text !== "_") captured.push(theirs[at]);
      } else if (level.text !== theirs[at]) {
        return null;
      }
    }
    return captured;
  }
}

/** The filters of which none takes all that another one takes: who subscribes to both may get a message twice. */
export function withoutCovered(filters) {
  const all = [...filters];
  return new Set(all.filter((one) => !all.some((other) => other !== one && covers(other, one))));
}

function covers(wide, narrow) {
  const theirs = narrow.split("/");
  const ours = wide.split("/");
  for (const [place, level] of ours.entries()) {
    if (level === "#") return true;
    if (place >= theirs.length || theirs[place] === "#" || (level !== "+" && level !== theirs[place])) return false;
  }
  return ours.length === theirs.length;
}
