/** The message as a command, as Python, as a sketch: to be copied. */
import { fill, h } from "./dom.js";
import { JSON_TYPE } from "./payload.js";
import { arduino, esphome, mosquittoPub, paho } from "./snippets.js";
import { tabsOf } from "./tabs.js";

const KINDS = { "mosquitto_pub": mosquittoPub, "Python": paho, "Arduino": arduino, "ESPHome": esphome };

/**
 * @param {() => {messages: {topic: string, payload: string, formats: string[]}[], broker: import("./snippets.js").Broker}} now
 */
export function copyCard(now) {
  let kind = "mosquitto_pub";
  const code = h("pre", { class: "code", tabindex: "0", "aria-label": "The message, to be copied" });
  const panel = h("div", {}, code);
  const said = h("span", { class: "dim small", role: "status" });
  const tabs = tabsOf(Object.keys(KINDS), "Copy as", [panel], (name) => ((kind = name), show()));
  function show() {
    const { messages, broker } = now();
    const sent = messages.map(({ topic, payload, formats }) => ({ topic, payload, contentType: formats[0] === JSON_TYPE ? null : JSON_TYPE }));
    fill(code, sent.length ? KINDS[kind](sent, broker) : "");
    fill(said);
  }
  async function copy() {
    try {
      await navigator.clipboard.writeText(code.textContent);
      fill(said, "Copied");
    } catch {
      // A page from a disk or by http has no clipboard; what is selected can be copied by hand.
      getSelection()?.selectAllChildren(code);
      fill(said, "Selected: press Ctrl+C");
    }
  }
  const element = h(
    "section",
    { class: "card copy", "aria-label": "Copy the message" },
    h("div", { class: "card-head" }, h("h3", {}, "Copy as"), tabs, h("span", { class: "spring" }), said, h("button", { type: "button", on: { click: copy } }, "Copy")),
    panel,
  );
  return { element, show };
}
