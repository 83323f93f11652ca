// Parts that views are made of. Each is a function of what it shows.

import { bytes, count, percent } from "./format.js";
import { icon } from "./icons.js";
import { badge as badgeOf, failureWords } from "./words.js";
import { h } from "./vdom.js";

/** A button. `look`: "primary", "danger", "quiet", "small", "icon". An icon alone needs `label`. */
export function button(words, onclick, { look = "", glyph, label, disabled = false, ...rest } = {}) {
  return h("button", { type: "button", class: `button ${look}`, onclick, disabled, "aria-label": label, title: words ? null : label, ...rest },
    glyph ? icon(glyph) : null, words ? h("span", {}, words) : null);
}

export function status({ words, tone }) {
  return h("span", { class: `status ${tone}` }, words);
}

export function badge(file) {
  const words = badgeOf(file);
  return words ? h("span", { class: file.kind === "raw" ? "badge raw" : "badge" }, words) : null;
}

/** A line that fills; `ratio` null: nobody knows how far. */
export function bar(ratio, { label, tone = "" } = {}) {
  const known = ratio !== null && ratio !== undefined && Number.isFinite(ratio);
  return h("div", {
    class: `bar ${tone}${known ? "" : " unknown"}`, role: "progressbar", "aria-label": label,
    "aria-valuemin": known ? "0" : null, "aria-valuemax": known ? "100" : null, "aria-valuenow": known ? Math.floor(ratio * 100) : null,
    "aria-valuetext": known ? percent(ratio) : null,
  }, h("i", { vars: known ? { "--ratio": ratio.toFixed(4) } : {} }));
}

/** A sentence that matters, with what can be done about it. */
export function notice(tone, words, ...actions) {
  const given = actions.filter(Boolean);
  return h("div", { class: `notice ${tone}`, role: tone === "bad" ? "alert" : null },
    icon(tone === "good" ? "done" : tone === "info" ? "info" : "warn"),
    h("div", {}, h("p", {}, words), given.length ? h("div", { class: "actions" }, given) : null));
}

export function trouble(error, again) {
  if (!error) return null;
  return notice("bad", error.message, again ? button("Try again", again, { look: "small", glyph: "retry" }) : null);
}

export function failure(found, ...actions) {
  return found ? notice("bad", failureWords(found), ...actions) : null;
}

export function empty(glyph, title, words, ...actions) {
  return h("div", { class: "empty" }, icon(glyph), h("h2", {}, title), h("p", {}, words),
    actions.length ? h("div", { class: "actions" }, actions) : null);
}

/** What stands where something will be. */
export function bones(lines = 4) {
  return h("div", { class: "bones", role: "status" }, h("span", { class: "unseen" }, "Loading"), Array.from({ length: lines }, () => h("i", {})));
}

/** The title of a view: focus goes here when the view opens, and screen readers begin here. */
export function head(title, lead, { back, actions } = {}) {
  return h("header", { class: "head" },
    h("div", {},
      back ? h("a", { class: "back", href: back.href }, icon("back"), back.words) : null,
      h("h1", { tabindex: "-1" }, title),
      lead ? h("p", { class: "lead" }, lead) : null),
    actions ? h("div", { class: "actions" }, actions) : null);
}

/** A surface with a title. `heading` names the region. */
export function panel(heading, { note, actions, key } = {}, ...children) {
  return h("section", { class: "panel", "aria-label": heading, key },
    h("header", {}, h("h2", {}, heading), note || actions ? h("div", { class: "actions" }, note ? h("span", { class: "soft" }, note) : null, actions) : null),
    children);
}

/** [[name, value], …] as a list of facts; values that say nothing are left out. */
export function facts(entries) {
  return h("dl", { class: "facts" },
    entries.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "–")
      .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** [[name, value, tone], …] as large figures. */
export function figures(entries) {
  return h("dl", { class: "figures" },
    entries.map(([name, value, tone]) => h("div", { key: name }, h("dt", {}, name), h("dd", { class: tone }, typeof value === "number" ? count(value) : value))));
}

const looks = (column) => [column.num ? "num" : "", column.look ?? ""].join(" ").trim() || null;

/** Columns: [{"title", "cell": (row) => …, "num", "look"}]; those that look "wide" are not shown on a phone. */
export function table(caption, columns, rows, key) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: looks(column) }, column.title)))),
      h("tbody", {}, rows.map((row, place) => h("tr", { key: key ? key(row) : place },
        columns.map((column) => h("td", { class: looks(column) }, column.cell(row, place))))))));
}

/** One of a few: a row of pressed or unpressed buttons. `options`: [[value, words], …]. */
export function choice(label, options, chosen, choose) {
  return h("div", { class: "choice", role: "group", "aria-label": label },
    options.map(([value, words]) => h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => choose(value) }, words)));
}

export function select(label, options, chosen, choose) {
  return h("select", { "aria-label": label, value: chosen, onchange: (event) => choose(event.target.value) },
    options.map(([value, words]) => h("option", { value }, words)));
}

/** Older and newer, by a stack of tokens. */
export function pager({ page, more, turn, busy }) {
  if (!more && page === 0) return null;
  return h("nav", { class: "pager", "aria-label": "Pages" },
    button("Newer", () => turn(-1), { glyph: "back", disabled: page === 0 || busy }),
    button("Older", () => turn(1), { glyph: "next", disabled: !more || busy }));
}

/** A picture of a file, or what stands in its place. `pictures` keeps addresses steady. */
export function picture(thumbnail, pictures, { alt = "", eager = false } = {}) {
  if (!thumbnail?.url) return null;
  return h("img", { src: pictures.steady(thumbnail.url), alt, width: thumbnail.width, height: thumbnail.height, loading: eager ? null : "lazy", decoding: "async", class: thumbnail.placeholder ? "placeholder" : null });
}

export function sizeOf(file) {
  return h("span", { class: "num" }, bytes(file.size));
}
