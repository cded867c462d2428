// Where messages wait for the next frame.
//
// Rules:
// * `offer` is called for each message and does almost nothing: what comes must not keep the page from painting;
// * `drain` is called once a frame, and stops at its budget of milliseconds;
// * what does not fit is sampled: one in `every` is kept, at random, so that no sensor is preferred. `every` doubles while the
//   queue stays more than half full, and halves after a second without anything left over;
// * each message kept counts for the `every` that it stands for, and the page says so.
//
// What nodes tell of themselves waits in `Told`, by topic, where the latest counts: it is never a sample, and what is beyond its bound
// is counted.

const MOST_SAMPLED = 1024;
const CALM = 60;

export class Intake {
  /** `limit` is the most messages that wait; `random` and `clock` (milliseconds) are for tests. */
  constructor({ limit = 4000, random = Math.random, clock = () => performance.now() } = {}) {
    this.limit = limit;
    this.every = 1;
    this.offered = 0;
    this.skipped = 0;
    this._random = random;
    this._clock = clock;
    this._waiting = [];
    this._next = 0;
    this._calm = 0;
  }

  get length() {
    return this._waiting.length - this._next;
  }

  /** Take a message, or skip it; returns whether it was taken. */
  offer(message) {
    this.offered += 1;
    if (this.length >= this.limit || (this.every > 1 && this._random() * this.every >= 1)) {
      this.skipped += 1;
      return false;
    }
    message.weight = this.every;
    this._waiting.push(message);
    return true;
  }

  /** Hand the messages that wait to `take`, in their order, for at most `budget` milliseconds. */
  drain(take, budget = 6) {
    const ends = this._clock() + budget;
    const waiting = this._waiting;
    let done = 0;
    while (this._next < waiting.length) {
      const message = waiting[this._next];
      waiting[this._next] = undefined;
      this._next += 1;
      take(message);
      done += 1;
      if (done % 16 === 0 && this._clock() >= ends) break;
    }
    if (this._next === waiting.length || this._next > this.limit) {
      this._waiting = waiting.slice(this._next);
      this._next = 0;
    }
    this._adjust();
    return done;
  }

  _adjust() {
    const left = this.length;
    if (left * 2 > this.limit) {
      this.every = Math.min(MOST_SAMPLED, this.every * 2);
      this._calm = 0;
    } else if (left > 0) {
      this._calm = 0;
    } else {
      this._calm += 1;
      if (this._calm >= CALM && this.every > 1) {
        this.every /= 2;
        this._calm = 0;
      }
    }
  }
}

/** The latest message of each topic, until it is taken. */
export class Told {
  /** `limit` is the most topics that wait: more than the nodes that are followed have. */
  constructor({ limit = 4000, clock = () => performance.now() } = {}) {
    this.skipped = 0;
    this._limit = limit;
    this._clock = clock;
    this._waiting = new Map();
  }

  offer(message) {
    if (this._waiting.size < this._limit || this._waiting.has(message.topic)) this._waiting.set(message.topic, message);
    else this.skipped += 1;
  }

  /** Hand what waits to `take`, for at most `budget` milliseconds. */
  drain(take, budget = 6) {
    const ends = this._clock() + budget;
    for (const [topic, message] of this._waiting) {
      this._waiting.delete(topic);
      take(message);
      if (this._clock() >= ends) break;
    }
  }

  /** Forget it all, as on another broker. */
  clear() {
    this._waiting.clear();
    this.skipped = 0;
  }
}
