// Asking before something cannot be undone, and saying what has happened.

import { button } from "./parts.js";
import { h, render } from "./vdom.js";

/** Asks; resolves with whether the person agreed. Focus comes back where it was. */
export function confirm(title, words, { agree = "Delete", danger = true } = {}) {
  return new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", "dialog-title");
    const end = (value) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      end(false);
    });
    render(dialog, h("div", {},
      h("h2", { id: "dialog-title" }, title),
      h("p", { class: "soft wrap" }, words),
      h("div", { class: "actions" },
        button("Keep", () => end(false)),
        button(agree, () => end(true), { look: danger ? "danger" : "primary" }))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

const SHOWN_MS = 6_000;

/** Says something to everybody: a line in the corner, and a live region for screen readers. */
export class Announcer {
  #region;
  #corner;
  #toasts = [];

  constructor(region, corner) {
    this.#region = region;
    this.#corner = corner;
  }

  /** For screen readers alone. */
  say(words) {
    this.#region.textContent = "";
    // An empty moment between, or the same words twice would be said once.
    setTimeout(() => { this.#region.textContent = words; }, 50);
  }

  show(words, { tone = "", href, link } = {}) {
    this.say(words);
    const toast = { id: crypto.randomUUID(), words, tone, href, link };
    this.#toasts = [...this.#toasts.slice(-2), toast];
    this.#draw();
    setTimeout(() => this.#drop(toast), tone === "bad" ? 2 * SHOWN_MS : SHOWN_MS);
  }

  #drop(toast) {
    this.#toasts = this.#toasts.filter((one) => one !== toast);
    this.#draw();
  }

  #draw() {
    render(this.#corner, this.#toasts.map((toast) => h("div", { key: toast.id, class: `toast ${toast.tone}` },
      h("span", {}, toast.words),
      toast.href ? h("a", { href: toast.href, onclick: () => this.#drop(toast) }, toast.link) : null,
      button("", () => this.#drop(toast), { look: "quiet small icon", glyph: "cancel", label: "Dismiss" }))));
  }
}
