/**
 * Put the rows of a table in the order of their keys: a row is made once, moved only where it must be, and goes with its key.
 * @template {{element: HTMLElement}} Row
 * @param {HTMLElement} body @param {Map<string, Row>} rows those that are there, by key; changed
 * @param {string[]} keys @param {(key: string) => Row} make
 */
export function arrange(body, rows, keys, make) {
  const wanted = new Set(keys);
  for (const [key, row] of rows) {
    if (wanted.has(key)) continue;
    row.element.remove();
    rows.delete(key);
  }
  let next = body.firstChild;
  for (const key of keys) {
    let row = rows.get(key);
    if (row === undefined) {
      row = make(key);
      rows.set(key, row);
    }
    if (row.element === next) next = next.nextSibling;
    else body.insertBefore(row.element, next);
  }
}
