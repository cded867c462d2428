/** The view where a model is tried: a form, the message that it makes, and the answer. */
import { fill, h, newId } from "./dom.js";
import { copyCard } from "./copy.js";
import { readAnswers } from "./answer.js";
import { fieldOf } from "./fields.js";
import { brokerOf } from "./address.js";
import { levelsOf, messagesOf } from "./payload.js";
import { alsoTaking, captures, levelError, takesSeveral } from "./topics.js";
import { Trial } from "./trial.js";
import { verdictOf } from "./verdict.js";

/**
 * @param {HTMLElement} root @param {import("./connection.js").Connection} connection
 * @param {(say: "connect") => void} ask to show the connect box
 */
export function mountTry(root, connection, ask) {
  const trial = new Trial(connection);
  let close = () => {};
  let unfollow = () => {};
  let form = null;
  let documents = [];
  return {
    /** @param {import("./document.js").NodeDocument | null} document @param {string} why there is none */
    show(document, why) {
      close();
      unfollow();
      unfollow = document ? trial.follow(document.node) : () => {};
      fill(root);
      form = null;
      if (!document) return void root.append(h("p", { class: "card dim" }, why));
      if (!document.routes.length) return void root.append(h("p", { class: "card" }, "This node has no routes to try."));
      const place = h("div", {});
      const choose = (route) => {
        form?.close();
        form = mountRoute(place, { document, route, connection, trial, ask, others: () => documents });
      };
      if (document.routes.length > 1) root.append(routePicker(document.routes, choose));
      root.append(place);
      choose(document.routes[0]);
      close = () => form?.close();
    },
    /** All documents that are known. @param {import("./nodes.js").Known[]} known */
    others(known) {
      documents = known;
      form?.warn();
    },
  };
}

function routePicker(routes, choose) {
  const id = newId();
  const options = routes.map(({ model, sources }, place) => h("option", { value: place }, `${model.name}: ${sources.map((one) => one.subscribe).join(", ")}`));
  return h(
    "p",
    { class: "picker" },
    h("label", { for: id }, "Route"),
    h("select", { id, on: { change: (event) => choose(routes[Number(event.target.value)]) } }, options),
  );
}

function mountRoute(root, { document, route, connection, trial, ask, others }) {
  const { model } = route;
  const fields = model.features.map((feature) => fieldOf(feature, changed));
  const levels = levelFields(route, changed);
  const rows = h("div", { class: "messages" });
  const answer = h("section", { class: "card answer", "aria-live": "polite", "aria-label": "Answer" }, h("p", { class: "dim" }, "The answer appears here."));
  const send = h("button", { class: "primary", type: "submit" }, "Send");
  const follow = h("input", { type: "checkbox", id: newId(), on: { change: () => follow.checked && submit() } });
  const ways = [["", "only the answer"], ["path", "and the way to it"], ["shap", "and what speaks for it"]];
  const why = h("select", { "aria-label": "Explanation", on: { change: () => follow.checked && submit() } }, ways.map(([value, text]) => h("option", { value }, text)));
  const how = h("p", { class: "dim small" });
  const rivals = h("p", { class: "small", role: "status" });
  /** What was looked at when that was said. */
  let warned = { topics: "", known: null };
  const copy = copyCard(() => ({ messages: toCopy(), broker: brokerOf(document, connection) }));
  /** The areas with the messages; what is typed there goes as it is. @type {ReturnType<typeof areaOf>[]} */
  let areas = [];
  let busy = false;
  let again = false;
  /** Whether to send as soon as there is a connection. */
  let wished = false;
  let closed = false;

  function current() {
    return areas.map(({ message, area }) => ({ ...message, payload: area.value, explain: why.value }));
  }

  /** The messages as the form has them now. @param {string} [id] */
  function made(id) {
    const values = Object.fromEntries(fields.map(({ feature, get }) => [feature.name, get()]));
    return messagesOf(route, values, levels.values(), id);
  }

  /** The same without what is this page's own, unless somebody typed it. */
  function toCopy() {
    const plain = made();
    return current().map((message, place) => (message.payload === areas[place].message.payload ? plain[place] : message));
  }

  /** Write the messages anew, as the form has it now. */
  function changed() {
    write(() => true);
    if (follow.checked) submit();
  }

  /** @param {(place: number) => boolean} mayWrite whether a message may be written over */
  function write(mayWrite) {
    const isShared = connection.state === "online" && !trial.isPrivate(document, route);
    const messages = made(isShared ? trial.id : undefined);
    if (messages.length === areas.length) {
      for (const [place, { area, topic }] of areas.entries()) {
        const isToBe = mayWrite(place);
        areas[place].message = messages[place];
        fill(topic, messages[place].topic);
        if (isToBe) area.value = messages[place].payload;
      }
    } else {
      areas = messages.map((message) => areaOf(message, () => copy.show()));
      fill(rows, areas.map(({ element }) => element));
    }
    copy.show();
    warn();
  }

  /** Say who else would answer. */
  function warn() {
    const topics = areas.map(({ message }) => message.topic);
    const asked = JSON.stringify(topics);
    const known = others();
    if (asked === warned.topics && known === warned.known) return;
    warned = { topics: asked, known };
    const found = alsoTaking(known, document.node, topics).sort();
    const names = [...found.slice(0, 3), ...(found.length > 3 ? [`${found.length - 3} more`] : [])].join(", ");
    fill(rivals, found.length > 0 && [h("span", { class: "badge warn" }, "shared topic"), " ", h("strong", {}, names), ` ${found.length > 1 ? "take" : "takes"} this message too: the answer may come from there as well as from `, h("strong", {}, document.node), "."]);
    rivals.hidden = !found.length;
  }

  async function submit() {
    if (connection.state !== "online") {
      wished = true;
      return ask("connect");
    }
    if (busy) return void (again = true);
    const wrong = levels.check();
    if (wrong) return wrong.focus();
    busy = true;
    label();
    answer.setAttribute("aria-busy", "true");
    try {
      do {
        again = false;
        show(await trial.ask(document, route, current(), levels.values(), show));
      } while (again && !closed);
    } catch (error) {
      if (!closed) showFailure(error);
    } finally {
      busy = false;
      label();
      answer.removeAttribute("aria-busy");
    }
  }

  function label() {
    const { state, reason } = connection;
    const connecting = reason ? "Reconnecting …" : "Connecting …";
    send.textContent = state === "online" ? "Send" : state === "connecting" ? connecting : "Connect and send";
    send.disabled = state === "connecting" || (busy && !follow.checked);
  }

  const show = (reply) => closed || showReply(reply);

  function showReply({ topic, payload, milliseconds, earlier }) {
    const read = readAnswers([payload, ...earlier], model, route.minConfidence);
    if (!follow.checked) showAnswer();
    const isRejection = read.kind === "rejection";
    const outside = new Set(read.kind === "prediction" ? read.outside : []);
    for (const { feature, mark } of fields) {
      const reasons = isRejection ? (read.byFeature.get(feature.name) ?? []) : [];
      mark(outside.has(feature.name) ? ["beyond all that the model was trained on"] : reasons, outside.has(feature.name));
    }
    answer.dataset.kind = read.kind;
    answer.dataset.tone = read.kind !== "prediction" ? "" : read.alarm ? "bad" : read.uncertain ? "warn" : "";
    fill(
      answer,
      h("div", { class: "card-head" }, h("h3", {}, "Answer"), h("span", { class: "spring" }), h("span", { class: "dim small", "data-latency": milliseconds }, `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`)),
      verdictOf(read, model),
      h("details", { class: "raw" }, h("summary", {}, "As it came"), h("p", { class: "mono dim" }, topic), h("pre", { class: "code" }, payload)),
    );
  }

  /** On a phone the answer is below what is seen. */
  function showAnswer() {
    requestAnimationFrame(() => answer.scrollIntoView({ block: "nearest" }));
  }

  function showFailure(error) {
    showAnswer();
    for (const { mark } of fields) mark([]);
    answer.dataset.kind = "failure";
    const why = /no answer/.test(error.message) ? whySilent(route) : "";
    fill(answer, h("p", {}, h("span", { class: "badge bad" }, "not answered")), h("p", { class: "verdict-reason" }, error.message), why && h("p", { class: "dim" }, why));
  }

  const examples = model.examples.map(({ title, features }) =>
    h("button", { type: "button", class: "chip", on: { click: () => useValues(features) } }, title),
  );
  function useValues(values) {
    setAll((field) => field.set(Object.hasOwn(values, field.feature.name) ? values[field.feature.name] : undefined));
  }
  /** @param {(field: import("./fields.js").Field) => void} set */
  function setAll(set) {
    for (const field of fields) {
      set(field);
      field.mark([]);
    }
    changed();
  }
  const reset = h("button", { type: "button", class: "plain", on: { click: () => setAll((field) => field.reset()) } }, "Reset");

  let before = connection.state;
  const unwatch = connection.watch(({ state, reason }) => {
    const isPrivate = trial.isPrivate(document, route);
    follow.disabled = state !== "online" || !isPrivate;
    if (follow.disabled) follow.checked = false;
    // A message asks by a property that MQTT 3.1.1 does not have; an answer to several is none of one's own.
    why.hidden = route.remembers || (state === "online" && connection.protocol !== 5);
    if (why.hidden) why.value = "";
    // Who ends an attempt does not want it any more; who mistyped the password does.
    if (state === "offline" && before === "connecting" && !reason) wished = false;
    before = state;
    label();
    fill(how, state !== "online" ? "" : isPrivate ? "The answer comes to this page only." : `The answer is published on the route's own topic, where others read it as well.`);
    // What somebody typed is not taken away by a connection that comes or goes.
    write((place) => areas[place].area.value === areas[place].message.payload);
    if (state !== "online" || !wished) return;
    wished = false;
    submit();
  });

  fill(
    root,
    h(
      "form",
      { class: "try", "aria-label": `Try ${model.name}`, novalidate: true, on: { submit: (event) => (event.preventDefault(), submit()) } },
      h(
        "section",
        { class: "card features", "aria-label": "Features" },
        h("div", { class: "model" }, h("h2", {}, model.name), h("span", { class: "badge" }, model.version), h("span", { class: "badge accent" }, model.task)),
        model.description && h("p", { class: "dim" }, model.description),
        h("div", { class: "chips", role: "group", "aria-label": "Examples" }, examples.length > 0 && h("span", { class: "dim small" }, "Examples"), examples, h("span", { class: "spring" }), reset),
        h("div", { class: "fields" }, fields.map(({ element }) => element)),
        h("p", { class: "legend dim small", "aria-hidden": "true" }, h("b"), "the middle half of the training data", h("i"), "its quantiles"),
      ),
      h(
        "div",
        { class: "side" },
        h(
          "section",
          { class: "card message", "aria-label": "Message" },
          h("div", { class: "card-head" }, h("h3", {}, "Message")),
          levels.element,
          rows,
          route.sources.some(({ form }) => form === "sparkplug") && h("p", { class: "dim" }, "This route takes Sparkplug B, which is not JSON: it can't be tried from here."),
          h("div", { class: "send" }, send, why, h("label", { class: "check small", for: follow.id }, follow, "answer while I move the sliders")),
          how,
          rivals,
        ),
        answer,
      ),
      copy.element,
    ),
  );
  changed();
  return {
    warn,
    close() {
      closed = true;
      unwatch();
      trial.close();
    },
  };
}

function areaOf(message, edited) {
  const id = newId();
  const topic = h("code", {}, message.topic);
  const area = h("textarea", { id, rows: 3, spellcheck: "false", on: { input: edited }, is: { value: message.payload } });
  return { message, area, topic, element: h("div", { class: "one-message" }, h("label", { for: id, class: "small" }, h("span", { class: "hidden-text" }, "Payload on "), topic), area) };
}

/** Fields for the levels of the topic that have names. */
function levelFields(route, changed) {
  const fields = levelsOf(route).map(({ name, fixed }) => {
    const id = newId();
    const input = h("input", {
      type: "text",
      id,
      name,
      autocomplete: "off",
      spellcheck: "false",
      readonly: fixed !== null,
      "aria-describedby": `${id}-said`,
      on: { input: () => (check(), changed()) },
      is: { value: fixed ?? "try" },
    });
    const said = h("span", { class: "reason", id: `${id}-said` });
    const several = route.sources.some(({ subscribe }) => takesSeveral(subscribe, name));
    function check() {
      const reason = levelError(input.value, several);
      fill(said, reason);
      input.setAttribute("aria-invalid", String(reason !== ""));
      return reason === "";
    }
    const label = name === "_" ? "any level" : name;
    return { name, input, check, element: h("div", { class: "level" }, h("label", { for: id, class: "mono small" }, label), input, said) };
  });
  return {
    element: fields.length ? h("div", { class: "levels", role: "group", "aria-label": "Levels of the topic" }, fields.map(({ element }) => element)) : null,
    values: () => Object.fromEntries(fields.map(({ name, input }) => [name, input.value])),
    /** The first field with something wrong. */
    check: () => fields.filter(({ check }) => !check())[0]?.input ?? null,
  };
}

function whySilent({ remembers, partial, sources }) {
  if (sources.some(({ subscribe }) => captures(subscribe).includes("feature"))) return "This route answers when a value changes and all are known.";
  if (remembers) return "This route keeps the latest values: it answers when one of them changes and all are known.";
  if (partial === "ignore") return "This route does not answer a message that lacks a feature.";
  return "Is the agent running, and connected to this broker? edge-agent status says so.";
}
