/** An answer for eyes and ears: the label with bars, a number, a score, or the reasons why there is none. */
import { h } from "./dom.js";
import { short } from "./form.js";
import { percent } from "./words.js";

/** A model may have a thousand labels, or features. */
const MOST_BARS = 10;

/** @param {ReturnType<typeof import("./answer.js").readAnswer>} answer @param {import("./document.js").Model} model @returns {any[]} */
export function verdictOf(answer, model) {
  if (answer.kind === "unknown") return [h("p", { class: "verdict-title" }, answer.title)];
  if (answer.kind === "rejection") {
    const beside = [...answer.byFeature].map(([name, reasons]) => h("li", {}, h("strong", {}, name), `: ${reasons.join("; ")}`));
    return [
      h("p", {}, h("span", { class: "badge bad" }, "rejected")),
      h("p", { class: "verdict-reason" }, answer.title),
      h("ul", { class: "reasons" }, beside, answer.others.map((reason) => h("li", {}, reason))),
    ];
  }
  const tone = answer.alarm ? "alarming" : answer.uncertain ? "doubtful" : "";
  return [
    (answer.alarm || answer.uncertain) && h("p", {}, h("span", { class: answer.alarm ? "badge bad" : "badge warn" }, answer.alarm ? "alarm" : "no label")),
    answer.title !== "" &&
      h("p", { class: `verdict-title ${tone}` }, answer.title, answer.unit && h("span", { class: "unit" }, ` ${answer.unit}`)),
    answer.note && h("p", { class: "dim" }, answer.note),
    answer.values.length > 0 && valuesOf(answer.values),
    answer.bars.length > 0 && barsOf(answer.bars),
    answer.score !== null && scoreOf(answer.score, model.threshold, tone),
    answer.why && reasonsOf(answer.why),
    answer.outside.length > 0 &&
      h("p", { class: "verdict-warn" }, h("span", { class: "badge warn" }, "outside"), ` beyond all that the model was trained on: ${answer.outside.join(", ")}`),
  ];
}

function barsOf(bars) {
  const shown = bars.slice(0, MOST_BARS);
  const left = bars.length - shown.length;
  return [
    h(
      "ol",
      { class: "bars", "aria-label": "Probabilities" },
      shown.map(({ label, share, chosen }) =>
        h(
          "li",
          { class: chosen ? "chosen" : null },
          h("span", { class: "bar-label" }, label),
          h("span", { class: "bar-track", "aria-hidden": "true" }, h("span", { style: { width: `${100 * share}%` } })),
          h("span", { class: "bar-share" }, percent(share)),
        ),
      ),
    ),
    left > 0 && h("p", { class: "dim small" }, `and ${left} more, below ${percent(shown.at(-1).share)}`),
  ];
}

/** @param {import("./answer.js").Why} why */
function reasonsOf({ because, otherwise, sum, shares }) {
  const shown = shares.slice(0, MOST_BARS);
  return h(
    "section",
    { class: "why", "aria-label": "Why" },
    because.length > 0 && [h("p", { class: "dim small" }, "because"), h("ul", {}, because.map((one) => h("li", {}, one)))],
    sum && h("p", { class: "dim small" }, sum),
    shown.length > 0 &&
      h(
        "ol",
        { class: "bars" },
        shown.map(({ name, value, share, against }) =>
          h(
            "li",
            { class: against ? "against" : "chosen" },
            h("span", { class: "bar-label" }, name),
            h("span", { class: "bar-track", "aria-hidden": "true" }, h("span", { style: { width: `${100 * share}%` } })),
            h("span", { class: "bar-share" }, value),
          ),
        ),
      ),
    shares.length > shown.length && h("p", { class: "dim small" }, `and ${shares.length - shown.length} more, smaller ones`),
    otherwise && h("p", { class: "small" }, otherwise),
  );
}

function valuesOf(values) {
  return h(
    "dl",
    { class: "values" },
    values.map(({ name, value, unit }) => h("div", {}, h("dt", {}, name), h("dd", {}, value, unit && h("span", { class: "unit" }, ` ${unit}`)))),
  );
}

function scoreOf(score, threshold, tone) {
  const top = Math.max(1, score, threshold ?? 0);
  const place = (value) => `${100 * Math.min(1, Math.max(0, value / top))}%`;
  return h(
    "div",
    { class: `score ${tone}` },
    h(
      "div",
      { class: "bar-track", "aria-hidden": "true" },
      h("span", { style: { width: place(score) } }),
      threshold !== null && h("i", { style: { left: place(threshold) } }),
    ),
    h("p", { class: "small" }, `score ${short(score)}`, threshold !== null && h("span", { class: "dim" }, `, an anomaly from ${short(threshold)} on`)),
  );
}
