/** Puts the page together. */
import { isLoopback, offered } from "./address.js";
import { connectBox } from "./connect.js";
import { Connection } from "./connection.js";
import { readDocument } from "./document.js";
import { fill, h } from "./dom.js";
import { mount as mountLive } from "./live/index.js";
import { nodePicker } from "./nodes.js";
import { mountReference } from "./reference.js";
import { tabsOf } from "./tabs.js";
import { followTheme, themeButton } from "./theme.js";
import { mountTry } from "./try.js";
import { connect as dial } from "./vendor/mqtt.js";

const content = (id) => document.getElementById(id)?.textContent ?? "";

function main() {
  followTheme();
  const embedded = JSON.parse(content("document"));
  const node = embedded === null ? null : readDocument(embedded, true);
  const connection = new Connection(dial);
  const address = offered(location, node);
  const connect = connectBox(connection, address);

  const panels = { "Try it": h("div", {}), "Topics": h("div", { hidden: true }), "Live": h("div", { hidden: true }) };
  const notice = h("p", { class: "notice", role: "status", hidden: true });
  const place = h("main", {}, notice, Object.values(panels));
  const attempt = mountTry(panels["Try it"], connection, () => connect.ask());
  const reference = mountReference(panels.Topics);
  const live = mountLive(panels.Live, connection);
  const tabs = tabsOf(Object.keys(panels), "Views", Object.values(panels), (name) => {
    for (const [one, panel] of Object.entries(panels)) panel.hidden = one !== name;
    live.shown(name === "Live");
    scrollTo(0, 0);
  });
  const about = h("span", {});
  const picker = nodePicker(connection, node, (shown, why) => {
    document.title = shown ? `${shown.node} · edge-agent` : "edge-agent";
    fill(about, shown ? `${shown.node}, edge-agent ${shown.version}` : "edge-agent");
    const left = shown?.left ?? [];
    notice.hidden = !left.length;
    fill(notice, left.length > 0 && `This documentation has more than a page can show. You see ${left.slice(0, 5).join(", ")}${left.length > 5 ? ", …" : ""}.`);
    attempt.show(shown, why);
    reference.show(shown, why);
  }, (documents) => attempt.others(documents));
  fill(
    /** @type {Element} */ (document.getElementById("page")),
    h(
      "header",
      {},
      h("div", { class: "bar" }, h("div", { class: "bar-inner" }, h("h1", { class: "brand" }, h("span", { class: "mark", "aria-hidden": "true" }), "edge-agent"), picker, h("span", { class: "spring" }), themeButton(), connect.button, tabs)),
      connect.box,
    ),
    place,
    h("footer", { class: "foot" }, about, h("details", {}, h("summary", {}, "Licenses of what is in this page"), h("pre", {}, content("licenses")))),
  );
  if (/[#&]broker=/.test(location.hash) && isLoopback(address)) connection.open(address);
}

main();
