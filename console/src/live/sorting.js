/** The order of the sensors' table. Pure. */
import { answer } from "../words.js";
import { warnings } from "./store.js";

const GRAVITY = { unread: 1, uncertain: 2, outside: 3, rejected: 4 };
const natural = new Intl.Collator("en", { numeric: true });

/** What each column is sorted by; a text, or a number of which the larger one comes first at the first click. */
const KEYS = {
  sensor: (sensor) => sensor.name,
  model: (sensor) => sensor.model,
  answer: (sensor) => (sensor.label === undefined && sensor.value !== undefined ? sensor.value : answer(sensor)),
  confidence: (sensor) => sensor.confidence ?? sensor.score ?? -Infinity,
  age: (sensor) => sensor.at,
  messages: (sensor) => sensor.count,
  warnings: (sensor) => Math.max(0, ...warnings(sensor).map((one) => GRAVITY[one.kind])),
};

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return natural.compare(String(one), String(other));
}

/**
 * The sensors in the order of a column, those of the same by their names.
 * @param {Iterable<any>} sensors @param {keyof typeof KEYS} column @param {"ascending" | "descending"} direction
 */
export function sorted(sensors, column, direction) {
  const sign = direction === "descending" ? -1 : 1;
  return [...sensors]
    .map((sensor) => ({ sensor, key: KEYS[column](sensor) }))
    .sort((one, other) => sign * compare(one.key, other.key) || natural.compare(one.sensor.name, other.sensor.name) || (one.sensor.key < other.sensor.key ? -1 : 1))
    .map(({ sensor }) => sensor);
}

/**
 * Whether a sensor is wanted: each word of the text is in its name, model, answer or a warning.
 * @param {any} sensor @param {string} text @param {boolean} warned only those with a warning
 */
export function wanted(sensor, text, warned) {
  const found = warnings(sensor);
  if (warned && found.length === 0) return false;
  if (text.trim() === "") return true;
  const whole = [sensor.name, sensor.model, answer(sensor), ...found.flatMap(({ kind, words }) => [kind, words])].join("\n").toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => whole.includes(word));
}
