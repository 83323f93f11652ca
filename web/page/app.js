// The frame around the views: navigation, what is open, and the one uploader that lives as long as the page.

import { createUploader } from "../engine/index.js";
import { Api } from "./api.js";
import { Announcer } from "./dialogs.js";
import { counted } from "./format.js";
import { icon } from "./icons.js";
import { button, notice } from "./parts.js";
import { Pictures } from "./pictures.js";
import { Remembered } from "./remembered.js";
import * as router from "./router.js";
import { chosenTheme, nextTheme } from "./theme.js";
import { uploadWords } from "./words.js";
import { h, render } from "./vdom.js";
import { archiveView, archivesView } from "./views/archives.js";
import { batchView } from "./views/batch.js";
import { fileView } from "./views/file.js";
import { filesView } from "./views/files.js";
import { seriesView } from "./views/series.js";
import { statusView } from "./views/status.js";
import { studiesView } from "./views/studies.js";
import { studyView } from "./views/study.js";
import { tablesView } from "./views/tables.js";
import { uploadsView } from "./views/uploads.js";

const SECTIONS = [
  ["uploads", "Uploads", "upload"],
  ["files", "Files", "files"],
  ["dicom", "DICOM", "dicom"],
  ["tables", "Tables", "table"],
  ["archives", "Archives", "archive"],
  ["status", "Status", "pulse"],
];

/** The view of an address; unknown ones are uploads. */
function viewOf({ parts, query }, app) {
  const [section, id, more, other] = parts;
  if (section === "files") return id ? fileView(app, id) : filesView(app, query);
  if (section === "dicom") {
    if (id === "batches" && more) return batchView(app, more);
    if (id === "studies" && more) return other ? seriesView(app, more, other) : studyView(app, more);
    return studiesView(app, query);
  }
  if (section === "batches" && id) return batchView(app, id);
  if (section === "tables") return tablesView(app, query);
  if (section === "archives") return id ? archiveView(app, id) : archivesView(app, query);
  if (section === "status") return statusView(app);
  return uploadsView(app);
}

export class App {
  #root;
  #view = null;
  #opened = null;
  #drawing = false;
  #closing = new AbortController();
  #section = "uploads";
  #known = new Set();

  constructor(root, config, session) {
    this.#root = root;
    this.config = config;
    this.session = session;
    this.api = new Api(config.api, session);
    this.pictures = new Pictures();
    const { iss = "", tenant = "", sub = "" } = session.claims;
    const account = `${iss}|${tenant}|${sub}`;
    this.batches = new Remembered("batches", account);
    this.archives = new Remembered("archives", account);
    this.announcer = new Announcer(document.getElementById("said"), document.getElementById("toasts"));
    this.uploader = createUploader({ api: config.api, token: (again) => session.token(again) });
    /** Files chosen for an archive: id -> name. */
    this.chosen = new Map();
  }

  open() {
    const { signal } = this.#closing;
    const redraw = () => this.redraw();
    addEventListener("hashchange", () => this.#route(), { signal });
    this.session.addEventListener("change", redraw, { signal });
    for (const type of ["change", "added", "idle", "connection"]) this.uploader.addEventListener(type, redraw, { signal });
    this.uploader.addEventListener("change", ({ detail }) => this.#remember(detail.batches), { signal });
    this.uploader.addEventListener("end", ({ detail }) => this.#tell(detail), { signal });
    // A drop beside the drop zone would make the browser leave the page, and every upload with it.
    for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault(), { signal });
    addEventListener("beforeunload", (event) => {
      if (this.running()) event.preventDefault();
    }, { signal });
    this.#route();
  }

  close() {
    this.#opened?.abort();
    this.#closing.abort();
    this.uploader.close();
  }

  running() {
    return this.uploader.files.filter((file) => !["done", "failed", "cancelled", "processing"].includes(file.state)).length;
  }

  /** Soon, once, however often it is asked for. */
  redraw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      if (!this.#closing.signal.aborted) this.#draw();
    });
  }

  #route() {
    const route = router.parse(location.hash);
    this.#section = SECTIONS.some(([name]) => name === route.parts[0]) ? route.parts[0] : route.parts[0] === "batches" ? "dicom" : "uploads";
    this.#opened?.abort();
    this.#opened = new AbortController();
    const first = this.#view === null;
    this.#view = { ...viewOf(route, this), key: route.parts.join("/") || "uploads", number: (this.#view?.number ?? 0) + 1 };
    this.#draw();
    this.#view.start?.(this.#opened.signal);
    if (!first) {
      scrollTo(0, 0);
      this.#root.querySelector("h1")?.focus({ preventScroll: true });
    }
  }

  #draw() {
    const title = this.#view.title();
    document.title = `${title} · ${this.config.title}`;
    render(this.#root, [
      h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); this.#root.querySelector("h1")?.focus(); } }, "Skip to content"),
      h("div", { class: "frame" },
        this.#rail(),
        h("main", { id: "main", class: "stage-area" },
          h("div", { class: "view", key: `${this.#view.key}#${this.#view.number}` }, this.#warnings(), this.#view.render()))),
    ]);
  }

  #warnings() {
    if (this.session.state === "expired") {
      return notice("warn", "Your session has ended. Sign in again; uploads go on from where they are.",
        button("Sign in again", () => this.session.signInAgain().catch((error) => this.announcer.show(error.message, { tone: "bad" })), { look: "small primary" }));
    }
    if (!this.uploader.online) return notice("warn", "There is no connection. Everything waits, and goes on by itself when it is back.");
    return null;
  }

  #rail() {
    const { tenant, sub } = this.session.claims;
    const running = this.running();
    const failed = this.uploader.files.filter((file) => file.state === "failed").length;
    const theme = chosenTheme();
    const words = { auto: "Colours as the system has them", light: "Light colours", dark: "Dark colours" }[theme];
    return h("header", { class: "rail" },
      h("a", { class: "mark", href: "#/uploads", "aria-label": "heavylift, uploads" }, icon("mark"), "heavylift"),
      h("nav", { "aria-label": "Sections" }, h("ul", {}, SECTIONS.map(([name, title, glyph]) =>
        h("li", {}, h("a", { href: `#/${name}`, "aria-current": name === this.#section ? "page" : null },
          icon(glyph), h("span", {}, title),
          name === "uploads" && failed ? h("span", { class: "tally bad", "aria-label": counted(failed, "failed upload") }, failed)
          : name === "uploads" && running ? h("span", { class: "tally", "aria-label": counted(running, "upload in work", "uploads in work") }, running) : null))))),
      h("div", { class: "account" },
        sub ? h("div", { class: "who" }, h("strong", { class: "clip" }, tenant ?? ""), h("span", { class: "clip" }, sub)) : null,
        h("div", { class: "settings" },
          button("", () => { nextTheme(); this.redraw(); }, { look: "quiet icon small", glyph: { auto: "auto", light: "sun", dark: "moon" }[theme], label: `${words}: change` }),
          this.session.development ? null : button("Sign out", () => this.#leave(), { look: "quiet small", glyph: "leave" }))));
  }

  /** Signs out; names of folders and archives are nobody else's business on a shared machine. */
  #leave() {
    this.batches.clear();
    this.archives.clear();
    this.session.signOut();
  }

  #remember(batches) {
    for (const { batch_id, name } of batches) {
      if (!batch_id || this.#known.has(batch_id)) continue;
      this.#known.add(batch_id);
      if (!this.batches.all().some((one) => one.id === batch_id)) this.batches.add(batch_id, name);
    }
  }

  #tell(file) {
    // Whoever looks at the uploads sees it; screen readers are told once all is done.
    if (this.#section === "uploads") {
      if (!this.running()) this.announcer.say(`${file.name}: ${uploadWords(file.state, file.record).words}`);
      return;
    }
    if (file.state === "failed") this.announcer.show(`${file.name}: ${file.error?.message ?? "failed"}`, { tone: "bad", href: "#/uploads", link: "Look" });
    else if (!file.batch && file.state === "done") {
      const status = file.record?.status;
      const words = status === "rejected" ? `${file.name} was rejected` : status === "completed_with_errors" ? `${file.name} is stored, with a defect` : `${file.name} is there`;
      this.announcer.show(words, { tone: status === "rejected" ? "bad" : "", href: file.file_id ? `#/files/${file.file_id}` : null, link: "Open" });
    }
  }
}
