/**
 * Elements without HTML: what comes from a broker or a document gets into the page as text and never as markup.
 *
 * Rules:
 * - This is the only module that makes elements or sets attributes.
 * - Children are elements or text. There is no way to hand in HTML; the page's policy (trusted types) has none either.
 */

/** Attributes that make elements do things: only constants of this page may be in them. */
const FORBIDDEN = /^(?:on|src|href|style$|action|formaction|xlink|innerHTML|outerHTML)/i;

/**
 * @typedef {Node | string | number | null | undefined | false} Child
 * @param {string} tag
 * @param {Record<string, any>} [properties] attributes; `on`: listeners by event; `style`: CSS properties; `is`: element properties
 * @param {...(Child | Child[])} children
 * @returns {any} the element
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "is") Object.assign(element, allowed(value));
    else if (FORBIDDEN.test(name)) throw new TypeError(`h() sets no ${name}`);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

/** @param {Record<string, any>} properties */
function allowed(properties) {
  const wrong = Object.keys(properties).find((name) => FORBIDDEN.test(name));
  if (wrong) throw new TypeError(`h() sets no ${wrong}`);
  return properties;
}

/** @param {Element} element @param {any[]} children */
function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Put these children in place of those that are there. @param {Element} element @param {...any} children */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

let count = 0;
/** An id that no other element of the page has. */
export const newId = () => `e${++count}`;
