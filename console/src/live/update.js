/** What there is to say of an update of one model of a node, and the button where the node waits for a person. */
import { fill, h } from "../dom.js";
import { badge, words } from "./versions.js";

export class UpdateView {
  /** @param {() => Promise<void>} install asks the node */
  constructor(install) {
    this._install = install;
    this._drawn = "";
    this._asked = false;
    this._problem = "";
    this._answers = 0;
    this.element = h("div", { class: "live-update" });
  }

  /**
   * Write what differs.
   * @param {string} name of the model @param {import("./versions.js").Versions} versions
   * @param {{answers: number, reason?: string}} asked how often the node was asked to install, and why it did not the last time
   */
  draw(name, versions, asked) {
    const drawn = JSON.stringify([name, versions, asked]);
    if (drawn === this._drawn) return;
    this._drawn = drawn;
    this._name = name;
    this._versions = versions;
    if (asked.answers !== this._answers) {
      this._answers = asked.answers;
      this._asked = this._asked && asked.reason === undefined;
      this._problem = asked.reason ?? "";
    }
    if (!versions.waits) {
      this._asked = false;
      this._problem = "";
    }
    this._write();
  }

  _write() {
    const { state, latest, percentage, reason, summary, compared, waits } = this._versions;
    const told = words(this._versions);
    // A button that is made anew keeps the focus.
    const focused = this.element.contains(document.activeElement);
    const label = { "aria-label": `Install ${this._name} ${latest}`, "aria-disabled": this._asked ? "true" : null };
    const button = waits && h("button", { type: "button", ...label, on: { click: () => this._press() } }, this._asked ? "Installing …" : "Install");
    fill(
      this.element,
      told && h("span", { class: `badge ${badge(state)}` }, `${this._name}: ${told}`),
      state === "fetching" && percentage !== undefined && h("progress", { max: 100, value: percentage, "aria-label": `${this._name}: ${told}` }),
      button,
      [told && summary, compared, reason, this._problem].map((one) => one && h("div", { class: "dim" }, one)),
    );
    if (focused && button) button.focus();
  }

  async _press() {
    if (this._asked) return;
    this._asked = true;
    this._problem = "";
    this._write();
    try {
      await this._install();
    } catch (error) {
      this._asked = false;
      this._problem = error.message;
      this._write();
    }
  }
}
