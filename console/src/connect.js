/** The connect box, and what the connection is like in the bar above. */
import { fill, h, newId } from "./dom.js";

const DOTS = { online: "good", connecting: "warn", offline: "" };

/** @param {import("./connection.js").Connection} connection @param {string} address to offer */
export function connectBox(connection, address) {
  const url = field("Broker, by WebSockets", { type: "url", required: true, spellcheck: "false", autocomplete: "off" }, address);
  const user = field("User", { type: "text", autocomplete: "off", spellcheck: "false" });
  // Not "current-password": nothing of it is to be kept by the browser either.
  const password = field("Password", { type: "password", autocomplete: "new-password" });
  const said = h("p", { class: "small", role: "status" });
  const open = h("button", { class: "primary", type: "submit" }, "Connect");
  const box = h(
    "section",
    { class: "connect", "aria-label": "Connection", id: newId() },
    h("form", { on: { submit: connect } }, url.element, user.element, password.element, open, said),
  );
  const dot = h("span", { class: "dot", "aria-hidden": "true" });
  const state = h("span", {});
  const button = h("button", { type: "button", class: "status", "aria-expanded": "true", "aria-controls": box.id, on: { click: () => show(box.hidden) } }, dot, state);

  function show(visible) {
    box.hidden = !visible;
    button.setAttribute("aria-expanded", String(visible));
  }
  function connect(event) {
    event.preventDefault();
    if (connection.state !== "offline") return connection.close();
    connection.open(url.input.value.trim(), { username: user.input.value, password: password.input.value });
  }
  let before = "offline";
  connection.watch(({ state: now, reason, protocol, url: where }) => {
    dot.className = `dot ${DOTS[now]}`;
    fill(state, now === "online" ? `${hostOf(where)}, MQTT ${protocol === 5 ? "5" : "3.1.1"}` : now === "connecting" ? "Connecting" : "Not connected");
    fill(open, now === "offline" ? "Connect" : "Disconnect");
    fill(said, reason || (now === "offline" ? "User and password stay in this page's memory; they are stored nowhere." : ""));
    said.classList.toggle("error", Boolean(reason));
    if (now === "online" && before !== "online") show(false);
    if (now === "offline" && before !== "offline") show(true);
    before = now;
  });
  return {
    box,
    button,
    /** Show the box, and lead there: not to its button, which ends a connection that is being made. */
    ask() {
      show(true);
      url.input.focus();
      box.scrollIntoView({ block: "nearest" });
    },
  };
}

function field(label, attributes, value = "") {
  const input = h("input", { ...attributes, is: { value } });
  return { input, element: h("label", {}, label, input) };
}

function hostOf(url) {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}
