// What a node says of drift (`edge/{node}/drift`): which models are asked, or answer, otherwise than in training, and how, in its words.

import { object, text } from "./answers.js";

const MOST = 5;

/**
 * @typedef {{model: string, how: string}} Drifted
 * @param {any} content an object @returns {Drifted[]} a few of what has drifted, the first of each model first
 */
export function readDrift(content) {
  const found = [];
  for (const model of objects(content.models)) {
    const name = text(model.name, 64);
    if (name === undefined) continue;
    for (const column of [...objects(model.features), ...objects(model.answers)]) {
      const [what, how] = [text(column.name, 100), text(column.how, 300)];
      if (column.drifted === true && what !== undefined && how !== undefined) found.push({ model: name, how: `${what}: ${how}` });
      if (found.length === MOST) return found;
    }
  }
  return found;
}

const objects = (value) => (Array.isArray(value) ? value.slice(0, 100).map(object).filter((one) => one !== undefined) : []);
