/** Tabs, with the keys that people know from them. */
import { h, newId } from "./dom.js";

/**
 * @param {string[]} names @param {string} label @param {HTMLElement[]} panels one for each name, or one that all of them fill
 * @param {(name: string) => void} chosen told of each change @returns {HTMLElement}
 */
export function tabsOf(names, label, panels, chosen) {
  const panelOf = (place) => panels[Math.min(place, panels.length - 1)];
  for (const panel of panels) {
    panel.id ||= newId();
    panel.setAttribute("role", "tabpanel");
  }
  const buttons = names.map((name, place) =>
    h(
      "button",
      { type: "button", role: "tab", id: newId(), "aria-controls": panelOf(place).id, "data-tab": name, on: { click: () => choose(place), keydown: (event) => move(event, place) } },
      name,
    ),
  );
  for (const [place, button] of buttons.entries()) panelOf(place).setAttribute("aria-labelledby", button.id);
  function show(place) {
    panelOf(place).setAttribute("aria-labelledby", buttons[place].id);
    for (const [number, button] of buttons.entries()) {
      button.setAttribute("aria-selected", String(number === place));
      button.tabIndex = number === place ? 0 : -1;
    }
  }
  function choose(place) {
    show(place);
    chosen(names[place]);
  }
  function move(event, place) {
    const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + names.length) % names.length;
    buttons[next].focus();
    choose(next);
  }
  show(0);
  return h("div", { class: "tabs", role: "tablist", "aria-label": label }, buttons);
}
