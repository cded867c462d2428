/** What a form shows for a feature: where its slider begins and ends, its steps, marks of the training data. */

/** A slider between bounds this many times wider than what training saw can't be aimed with. */
const TOO_WIDE = 20;

/**
 * @typedef {import("./document.js").Feature} Feature
 * @typedef {{low: number, high: number, step: number, median: number | null, usual: [number, number] | null,
 *   marks: {at: number, level: number, value: number}[]}} Slider `at` is between 0 and 1; `usual` are places of the middle half
 */

/** @param {Feature} feature @returns {Slider} */
export function sliderOf({ minimum, maximum, quantiles, example }) {
  const seen = quantiles.map(([, value]) => value);
  const around = seen.length ? seen : [typeof example === "number" ? example : 0];
  const [least, most] = [around.reduce((one, other) => Math.min(one, other)), around.reduce((one, other) => Math.max(one, other))];
  const span = most - least || Math.abs(most) || 1;
  let low = minimum ?? least - span / 4;
  let high = maximum ?? most + span / 4;
  if (seen.length && high - low > TOO_WIDE * span) {
    low = Math.max(low, least - span / 2);
    high = Math.min(high, most + span / 2);
  }
  if (!(high > low)) high = low + span;
  const step = 10 ** Math.floor(Math.log10((high - low) / 100));
  if (minimum === null) low = Math.floor(low / step) * step;
  if (maximum === null) high = Math.ceil(high / step) * step;
  const place = (value) => Math.min(1, Math.max(0, (value - low) / (high - low)));
  const at = (level) => quantiles.find(([one]) => one === level)?.[1];
  const [quarter, median, threeQuarters] = [0.25, 0.5, 0.75].map(at);
  return {
    low: tidy(low, step),
    high: tidy(high, step),
    step,
    median: median ?? null,
    usual: quarter === undefined || threeQuarters === undefined ? null : [place(quarter), place(threeQuarters)],
    marks: quantiles.map(([level, value]) => ({ at: place(value), level, value })),
  };
}

/** A number on the grid of a step, without the dust of binary fractions. @param {number} value @param {number} step */
export function tidy(value, step) {
  const digits = Math.max(0, Math.min(12, Math.ceil(-Math.log10(step)) + 1));
  return Number(value.toFixed(digits));
}

/** Whether a value of a boolean feature is yes, in whatever way. @param {any} value */
export const isYes = (value) => [true, 1, "true", "on", "yes"].includes(value);

/** What a feature has at the beginning. @param {Feature} feature @returns {number | boolean | string} */
export function startOf(feature) {
  if (feature.kind === "boolean") return isYes(feature.example);
  if (feature.kind === "category") {
    const { example, values } = feature;
    return typeof example === "string" && values.includes(example) ? example : (values[0] ?? "");
  }
  const { step, median, low, high } = sliderOf(feature);
  const value = typeof feature.example === "number" ? feature.example : (median ?? (low + high) / 2);
  return Number(value.toPrecision(Math.min(15, Math.max(4, Math.ceil(Math.log10(Math.abs(value) / step || 1)) + 2))));
}

/** What a feature may be, in words. @param {Feature} feature */
export function boundsInWords({ kind, minimum, maximum, unit, values }) {
  if (kind === "boolean") return "yes or no";
  if (kind === "category") return `${values.length} ${values.length === 1 ? "choice" : "choices"}`;
  const suffix = unit ? ` ${unit}` : "";
  if (minimum !== null && maximum !== null) return `${short(minimum)} to ${short(maximum)}${suffix}`;
  if (minimum !== null) return `from ${short(minimum)}${suffix}`;
  if (maximum !== null) return `up to ${short(maximum)}${suffix}`;
  return unit ? `any number,${suffix}` : "any number";
}

/** A number for reading. @param {number} value */
export function short(value) {
  const digits = Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential(2) : value.toPrecision(5);
  return String(Number(digits)).replace("-", "\u2212");
}

/** A share for reading. @param {number} level between 0 and 1 */
export const percent = (level) => `${Number((100 * level).toPrecision(4))} %`;
