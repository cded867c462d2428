/** Node's globals, for mqtt.js. */
export { Buffer } from "buffer";
export { default as process } from "process";
export const setImmediate = (call, ...given) => setTimeout(call, 0, ...given);
/** In place of the package worker-timers: the page's policy allows no workers. */
export const { setInterval, clearInterval } = globalThis;
