// Topic templates as a node's info names them: `{name}` is one level, `{name...}` one or more. See edge_agent/contract/templates.py.

const CAPTURE = /^\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}$/;

/** One template: its MQTT filter, and the levels that it captures of a topic. */
export class Template {
  constructor(text) {
    this.text = text;
    this.names = [];
    this.levels = text.split("/").map((level) => {
      const capture = CAPTURE.exec(level);
      if (capture === null) return { text: level, wild: false, rest: false };
      if (capture[1] !== "_") this.names.push(capture[1]);
      return { text: capture[1], wild: true, rest: capture[2] !== undefined };
    });
    this.rest = this.levels.findIndex((level) => level.rest);
  }

  /** The filter to subscribe to; what stands behind a `{name...}` can't be said in one. */
  get filter() {
    const levels = this.rest < 0 ? this.levels : this.levels.slice(0, this.rest + 1);
    return levels.map((level) => (level.rest ? "#" : level.wild ? "+" : level.text)).join("/");
  }

  /** Whether it can be subscribed to: a node that sends nonsense must not cost the connection. */
  get sound() {
    return (
      this.text !== "" &&
      this.text.length < 1024 &&
      !this.text.startsWith("$") &&
      !/[\0-\x1f\x7f-\x9f]/.test(this.text) &&
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
