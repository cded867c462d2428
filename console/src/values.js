/** What came as JSON, and may be anything. */

/** @param {any} value */
export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** An object, whatever came. @param {any} value @returns {Record<string, any>} */
export const object = (value) => (isObject(value) ? value : {});

/** A list, whatever came. @param {any} value @returns {any[]} */
export const list = (value) => (Array.isArray(value) ? value : []);
