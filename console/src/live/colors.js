/** Which color a label has: the same one on each page and in each session. Pure. */

/** So many labels have a color of their own, which style.css gives. */
export const COLORS = 12;

/** What stands for no label, or for many: gray. */
const SPECIAL = /^\(.*\)$/;

/**
 * The colors of labels, as numbers below COLORS: by the label's place among those of its model, of a label that the model does not
 * name by its letters. Two have the same one only where there are more labels than colors.
 * @param {string[]} labels @param {string[]} known the model's
 */
export function colorsOf(labels, known) {
  const wished = labels.map((label) => [label, known.indexOf(label)]);
  const order = [...wished.keys()].sort((one, other) => rank(wished[one]) - rank(wished[other]) || (labels[one] < labels[other] ? -1 : 1));
  const taken = new Set();
  const colors = [];
  for (const at of order) {
    const [label, place] = wished[at];
    let color = place >= 0 ? place % COLORS : SPECIAL.test(label) ? COLORS - 1 : hash(label) % COLORS;
    while (taken.size < COLORS && taken.has(color)) color = (color + 1) % COLORS;
    taken.add(color);
    colors[at] = color;
  }
  return colors;
}

/** Known labels choose first. */
const rank = ([, place]) => (place < 0 ? Number.MAX_SAFE_INTEGER : place);

function hash(label) {
  let found = 0x811c9dc5;
  for (let at = 0; at < label.length; at += 1) found = Math.imul(found ^ label.charCodeAt(at), 0x01000193);
  return found >>> 0;
}
