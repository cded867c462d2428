/** Figures and times in words. Pure. */

const figures = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A count. @param {number | undefined} value */
export const count = (value) => (value === undefined ? "–" : figures.format(value));

/** So many of something. @param {number} value @param {string} one @param {string} [several] */
export const many = (value, one, several = `${one}s`) => `${count(value)} ${value === 1 ? one : several}`;

/** A rate a second: with a digit where it is small. @param {number | undefined} value */
export const rate = (value) => (value === undefined ? "–" : value < 10 ? String(Math.round(value * 10) / 10) : figures.format(value));

/** A number of a model: six digits. @param {number} value */
export const amount = (value) => String(Number(value.toPrecision(6)));

/** @param {number | undefined} value between 0 and 1 */
export const percent = (value) => (value === undefined ? "" : `${(100 * value).toFixed(1)} %`);

/** @param {number | undefined} value */
export const milliseconds = (value) => (value === undefined ? "–" : value < 10 ? value.toFixed(2) : figures.format(value));

/** How long something has been, roughly. @param {number} passed milliseconds */
export function age(passed) {
  const seconds = Math.max(0, Math.floor(passed / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** What a sensor was answered, in words. */
export function answer(sensor) {
  if (sensor.uncertain) return "uncertain";
  if (typeof sensor.label === "string") return sensor.label;
  if (sensor.values) return sensor.values.map(([name, value]) => `${name} ${amount(value)}`).join(", ");
  if (sensor.value !== undefined) return `${amount(sensor.value)}${sensor.unit ? ` ${sensor.unit}` : ""}`;
  return "–";
}
