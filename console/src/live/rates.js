// Messages a second, over the last few whole seconds.

const SECONDS = 5;

export class Rate {
  constructor() {
    this._counts = new Array(SECONDS + 1).fill(0);
    this._second = null;
    this._began = null;
  }

  /** Count `weight` messages at `now`, in milliseconds. */
  add(now, weight = 1) {
    this._turn(now);
    this._counts[this._second % this._counts.length] += weight;
  }

  /** Messages a second at `now`: of the whole seconds that have passed, five at most. */
  at(now) {
    if (this._began === null) return 0;
    this._turn(now);
    const whole = Math.min(SECONDS, this._second - this._began);
    const current = this._second % this._counts.length;
    if (whole === 0) return this._counts[current];
    return this._counts.reduce((sum, count, place) => (place === current ? sum : sum + count), 0) / whole;
  }

  _turn(now) {
    const second = Math.floor(now / 1000);
    if (this._began === null) {
      this._began = second;
      this._second = second;
    }
    // A clock that was set back stays where it was.
    const passed = Math.min(second - this._second, this._counts.length);
    for (let step = 1; step <= passed; step += 1) this._counts[(this._second + step) % this._counts.length] = 0;
    if (second > this._second) this._second = second;
  }
}
