// The beginning: configuration, session, page.

import { App } from "./app.js";
import { load } from "./config.js";
import { button, trouble } from "./parts.js";
import { icon } from "./icons.js";
import { Session } from "./session.js";
import { h, render } from "./vdom.js";

// The page's policy refuses markup and scripts made of text; a worker's address counts as script. Ours may pass.
globalThis.trustedTypes?.createPolicy("default", {
  createScriptURL(text) {
    const url = new URL(text, location.href);
    if (url.origin !== location.origin) throw new TypeError("only workers of this origin");
    return url.href;
  },
});

const root = document.getElementById("app");

function welcome(session, error) {
  const enter = () => session.signIn().catch((reason) => welcome(session, reason));
  render(root, h("main", { key: "signin", class: "signin" },
    h("p", { class: "mark" }, icon("mark"), "heavylift"),
    h("h1", { tabindex: "-1" }, "Sign in"),
    h("p", {}, "Very large files straight into storage, and what became of them: previews, studies, reports, packages."),
    trouble(error),
    button("Sign in", enter, { look: "primary" })));
}

let app = null;

async function begin() {
  let session;
  try {
    const config = await load();
    document.title = config.title;
    session = new Session(config);
    session.addEventListener("change", () => {
      if (session.state === "signed-out" && app) {
        app.close();
        app = null;
        if (session.development) location.reload();
        else welcome(session);
      }
    });
    if (!(await session.begin())) {
      welcome(session);
      return;
    }
    app = new App(root, config, session);
    app.open();
  } catch (error) {
    if (session && !session.development) welcome(session, error);
    else render(root, h("main", { key: "signin", class: "signin" }, h("p", { class: "mark" }, icon("mark"), "heavylift"), h("h1", {}, "The page cannot start"), trouble(error, () => location.reload())));
  }
}

begin();
