/** Light or dark: what the system says, until somebody chooses. */
import { h } from "./dom.js";

const prefersDark = globalThis.matchMedia?.("(prefers-color-scheme: dark)");
/** @type {"light" | "dark" | null} */
let chosen = null;

function show() {
  document.documentElement.dataset.theme = chosen ?? (prefersDark?.matches ? "dark" : "light");
  // Charts are drawn with the colors of the moment.
  dispatchEvent(new Event("theme"));
}

export function followTheme() {
  prefersDark?.addEventListener("change", show);
  show();
}

/** A button that switches between light and dark. */
export function themeButton() {
  const button = h("button", { class: "plain", type: "button", on: { click: toggle } });
  const label = () => {
    const dark = document.documentElement.dataset.theme === "dark";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${dark ? "light" : "dark"} colors`);
  };
  addEventListener("theme", label);
  label();
  return button;
}

function toggle() {
  chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  show();
}
