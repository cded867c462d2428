/** The fields of a form: one for each feature, with a slider or a choice, and the training data's quantiles. */
import { fill, h, newId } from "./dom.js";
import { boundsInWords, isYes, percent, short, sliderOf, startOf, tidy } from "./form.js";
import { typedValue } from "./payload.js";

/**
 * @typedef {import("./document.js").Feature} Feature
 * @typedef {{feature: Feature, element: HTMLElement, get(): any, set(value: any): void, reset(): void,
 *   mark(reasons: string[], outside?: boolean): void}} Field
 */

/** @param {Feature} feature @param {() => void} changed @returns {Field} */
export function fieldOf(feature, changed) {
  const id = newId();
  const control = { number: numberControl, boolean: booleanControl, category: categoryControl }[feature.kind](feature, id, changed);
  const said = h("p", { class: "reason", id: `${id}-said`, hidden: true });
  const element = h(
    "div",
    { class: "field", "data-feature": feature.name },
    h(
      "div",
      { class: "field-head" },
      h("label", { for: id, title: feature.description || null }, feature.name),
      h("span", { class: "dim small", id: `${id}-bounds` }, boundsInWords(feature)),
    ),
    control.elements,
    feature.description && h("p", { class: "dim small field-about" }, feature.description),
    said,
  );
  return {
    feature,
    element,
    get: control.get,
    set: control.set,
    reset: () => control.set(startOf(feature)),
    mark(reasons, outside = false) {
      said.hidden = !reasons.length;
      fill(said, reasons.join("; "));
      element.classList.toggle("rejected", reasons.length > 0 && !outside);
      element.classList.toggle("outside", outside);
      control.input.setAttribute("aria-invalid", String(reasons.length > 0 && !outside));
    },
  };
}

function numberControl(feature, id, changed) {
  const { low, high, step, median, usual, marks } = sliderOf(feature);
  const input = h("input", {
    type: "text",
    inputmode: "decimal",
    id,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `${id}-bounds ${id}-said`,
    on: { input: () => (follow(), changed()) },
  });
  const slider = h("input", {
    type: "range",
    min: low,
    max: high,
    step: "any",
    "aria-label": `${feature.name}, slider`,
    on: {
      input: () => {
        input.value = String(tidy(Number(slider.value), step));
        follow();
        changed();
      },
      // "any" has no step for the arrow keys.
      keydown: (event) => {
        const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
        if (!by) return;
        event.preventDefault();
        slider.value = String(tidy(Number(slider.value) + by * step, step));
        slider.dispatchEvent(new Event("input"));
      },
    },
  });
  function follow() {
    const value = typedValue(input.value);
    if (typeof value === "number") slider.value = String(value);
    slider.classList.toggle("absent", typeof value !== "number");
    const share = (Number(slider.value) - low) / (high - low);
    slider.style.setProperty("--share", `calc(8px + (100% - 16px) * ${Math.min(1, Math.max(0, share))})`);
    slider.setAttribute("aria-valuetext", `${input.value || "none"} ${feature.unit}`.trim());
  }
  const set = (value) => {
    input.value = value === undefined || value === null ? "" : String(value);
    follow();
  };
  set(startOf(feature));
  const ticks = marks.map(({ at, level, value }) =>
    h("i", { class: level === 0.5 ? "median" : null, style: { left: `${100 * at}%` }, title: `${percent(level)} of the training data up to ${short(value)}` }),
  );
  const box = usual && h("b", { style: { left: `${100 * usual[0]}%`, width: `${100 * (usual[1] - usual[0])}%` } });
  const strip = h("div", { class: "strip", "aria-hidden": "true" }, box, ticks);
  const known = median === null ? null : h("span", { class: "hidden-text" }, `Half of the training data is up to ${short(median)}.`);
  return {
    input,
    elements: h(
      "div",
      { class: "number" },
      h("div", { class: "slide" }, slider, marks.length > 0 && strip, known),
      h("div", { class: "typed" }, input, feature.unit && h("span", { class: "dim small" }, feature.unit)),
    ),
    get: () => typedValue(input.value),
    set,
  };
}

function booleanControl(feature, id, changed) {
  const options = [["true", "yes"], ["false", "no"], ["", "no value"]];
  return choice(id, changed, options.slice(0, feature.missing ? 3 : 2), {
    read: (value) => (value === "" ? undefined : value === "true"),
    write: (value) => (value === undefined || value === null ? "" : String(isYes(value))),
    start: startOf(feature),
  });
}

function categoryControl(feature, id, changed) {
  const options = [...feature.values.map((value) => [`=${value}`, value]), ["", "no value"]];
  return choice(id, changed, options, {
    read: (value) => (value === "" ? undefined : value.slice(1)),
    write: (value) => (value === undefined || value === null ? "" : `=${value}`),
    start: startOf(feature),
  });
}

function choice(id, changed, options, { read, write, start }) {
  const input = h(
    "select",
    { id, "aria-describedby": `${id}-bounds ${id}-said`, on: { change: changed } },
    options.map(([value, label]) => h("option", { value }, label)),
  );
  const set = (value) => (input.value = write(value));
  set(start);
  return { input, elements: h("div", { class: "choice" }, input), get: () => read(input.value), set };
}
