// What is remembered over time, bounded: the points of one sensor, and the seconds of one model over all its sensors.
import { colorsOf } from "./colors.js";

/** The last points of a sensor: at most `most`, a second apart, or a tenth of one where the label changed. */
export class History {
  constructor(most = 300) {
    this._most = most;
    this._size = 0;
    this._next = 0;
    this._times = new Float64Array(8);
    this._values = new Float64Array(8);
    this._confidences = new Float64Array(8);
    this._last = -Infinity;
    this._value = NaN;
  }

  get length() {
    return this._size;
  }

  /** Keep a point, unless another one was kept a moment ago. `value` is a number, or the place of the label. */
  add(now, value, confidence) {
    const passed = now - this._last;
    if (passed < 100 || (passed < 1000 && Object.is(value, this._value))) return;
    if (this._size === this._times.length && this._size < this._most) this._grow();
    this._times[this._next] = now;
    this._values[this._next] = value;
    this._confidences[this._next] = confidence ?? NaN;
    this._next = (this._next + 1) % this._times.length;
    this._size = Math.min(this._size + 1, this._times.length);
    this._last = now;
    this._value = value;
  }

  /** The points since a time, the oldest first: [time, value, confidence] with null for what is not there. */
  since(time) {
    const points = [];
    const length = this._times.length;
    for (let step = this._size; step > 0; step -= 1) {
      const at = (this._next - step + length) % length;
      if (this._times[at] < time) continue;
      points.push([this._times[at], finite(this._values[at]), finite(this._confidences[at])]);
    }
    return points;
  }

  _grow() {
    // It is only grown when full and never overwritten yet, so its points stand in their order.
    const length = Math.min(this._most, this._times.length * 2);
    for (const name of ["_times", "_values", "_confidences"]) {
      const grown = new Float64Array(length);
      grown.set(this[name]);
      this[name] = grown;
    }
    this._next = this._size;
  }
}

function finite(value) {
  return Number.isNaN(value) ? null : value;
}

export const OTHERS = "(other labels)";
const UNCERTAIN = "(uncertain)";

/** The answers of one model by second: counts of its labels, and means of its confidence and value. */
export class Trend {
  constructor({ seconds = 300, most = 12 } = {}) {
    this.labels = [];
    /** The labels that the model has, as nodes tell. @type {string[]} */
    this.known = [];
    this._colors = { known: this.known, colors: [] };
    this._seconds = seconds;
    this._most = most;
    this._places = new Map();
    this._buckets = new Map();
    /** The second of the first answer; and of the first since the last pause. */
    this.began = Infinity;
    this._since = Infinity;
  }

  /** Count an answer, which stands for `weight` of them. `label` is null where it is uncertain, undefined for a number. */
  add(now, label, value, confidence, weight = 1) {
    const second = Math.floor(now / 1000);
    this.began = Math.min(this.began, second);
    this._since = Math.min(this._since, second);
    let bucket = this._buckets.get(second);
    if (bucket === undefined) {
      bucket = { counts: [], confidence: 0, confident: 0, value: 0, valued: 0 };
      this._buckets.set(second, bucket);
      for (const old of this._buckets.keys()) {
        if (old > second - this._seconds && this._buckets.size <= this._seconds + 1) break;
        this._buckets.delete(old);
      }
    }
    if (label !== undefined) {
      const place = this.place(label);
      bucket.counts[place] = (bucket.counts[place] ?? 0) + weight;
    }
    if (confidence !== undefined) {
      bucket.confidence += confidence;
      bucket.confident += 1;
    }
    if (value !== undefined) {
      bucket.value += value;
      bucket.valued += 1;
    }
  }

  /** Nothing is known of the time from now until the next answer. */
  pause() {
    this._since = Infinity;
  }

  /** The place of a label, null where it is uncertain, among those that are told apart; further ones share the last place. */
  place(label) {
    let place = this._places.get(label);
    if (place !== undefined) return place;
    const full = this.labels.length >= this._most;
    const name = full ? OTHERS : (label ?? UNCERTAIN);
    place = this.labels.indexOf(name);
    if (place < 0) {
      place = this.labels.length;
      this.labels.push(name);
    }
    if (!full) this._places.set(label, place);
    return place;
  }

  /** The colors of `labels`. */
  get colors() {
    if (this._colors.known !== this.known || this._colors.colors.length !== this.labels.length) {
      this._colors = { known: this.known, colors: colorsOf(this.labels, this.known) };
    }
    return this._colors.colors;
  }

  /**
   * The last `seconds` whole seconds before `now`: their times, counts by label, mean confidence and value. Null is for none, and
   * for counts of a time of which nothing is known: before the first answer, and in a pause.
   */
  series(now, seconds) {
    const last = Math.floor(now / 1000) - 1;
    const times = [];
    const counts = this.labels.map(() => []);
    const confidence = [];
    const value = [];
    for (let second = last - seconds + 1; second <= last; second += 1) {
      const bucket = this._buckets.get(second);
      times.push(second);
      counts.forEach((one, place) => one.push(bucket ? (bucket.counts[place] ?? 0) : second < this._since ? null : 0));
      confidence.push(bucket?.confident ? bucket.confidence / bucket.confident : null);
      value.push(bucket?.valued ? bucket.value / bucket.valued : null);
    }
    return { times, counts, confidence, value };
  }
}
