/** The documentation: each topic, what goes there, and in which form. */
import { groupsOf } from "./asyncapi.js";
import { fill, h } from "./dom.js";

const MORE = "… and more than this page shows: edge-agent docs --json has it all.";

/** @param {HTMLElement} root */
export function mountReference(root) {
  return {
    /** @param {import("./document.js").NodeDocument | null} document @param {string} why there is none */
    show(document, why) {
      if (!document) return void fill(root, h("p", { class: "card dim" }, why));
      fill(root, groupsOf(document.asyncapi).map(groupOf));
    },
  };
}

function groupOf({ title, channels, more }) {
  return h("section", { class: "group" }, h("h2", {}, title), channels.map(channelOf), more && h("p", { class: "dim" }, MORE));
}

function channelOf({ address, about, parameters, messages, qos, retain, answered }) {
  return h(
    "details",
    { class: "card channel" },
    h("summary", {}, h("code", { class: "address" }, addressOf(address)), h("span", { class: "dim small" }, about)),
    h(
      "p",
      { class: "badges" },
      messages.flatMap(({ contentTypes }) => contentTypes).map((one) => h("span", { class: "badge" }, one)),
      qos !== null && h("span", { class: "badge" }, `QoS ${qos}`),
      retain && h("span", { class: "badge accent" }, "retained"),
      answered && h("span", { class: "badge accent" }, "follows a Response Topic"),
    ),
    parameters.length > 0 &&
      h("dl", { class: "parameters" }, parameters.map(({ name, about: what }) => h("div", {}, h("dt", { class: "mono" }, `{${name}}`), h("dd", { class: "dim" }, what)))),
    messages.map(messageOf),
  );
}

/** The topic, with the levels that have names set apart. */
function addressOf(address) {
  return address.split("/").flatMap((level, place) => [place > 0 && h("span", { class: "dim" }, "/"), /^\{.*\}$/.test(level) ? h("em", {}, level) : level]);
}

function messageOf({ contentTypes, rows, about, examples, more }) {
  if (!rows.length && !examples.length && !about) return null;
  return h(
    "div",
    { class: "message-doc" },
    h("h3", {}, contentTypes.join(", ")),
    about && h("p", { class: "dim" }, about),
    rows.length > 0 && tableOf(rows),
    more && h("p", { class: "dim small" }, MORE),
    examples.length > 0 && h("pre", { class: "code" }, examples.join("\n")),
  );
}

function tableOf(rows) {
  const head = ["Key", "Type", "Values", "Meaning"].map((name) => h("th", { scope: "col" }, name));
  const body = rows.map(({ path, type, limits, about, required }) =>
    h("tr", {}, h("th", { scope: "row", class: "mono" }, path, !required && h("span", { class: "dim" }, "?")), h("td", { class: "dim" }, type), h("td", {}, limits), h("td", { class: "dim" }, about)),
  );
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}
