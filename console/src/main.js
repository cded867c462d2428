/** Puts the page together. */
import { h } from "./dom.js";
import { Connection } from "./connection.js";
import { mount } from "./live/index.js";
import { followTheme } from "./theme.js";

followTheme();
const root = /** @type {HTMLElement} */ (document.getElementById("page"));
mount(root.appendChild(h("main")), new Connection());
