// Data sets: tables, JSON and text, dense, with what is wrong with them and a retry.

import { ago, bytes, shortened } from "../format.js";
import { Pages } from "../pages.js";
import { badge, bones, button, choice, empty, head, pager, panel, select, status, table, trouble } from "../parts.js";
import { keepAsking } from "../polling.js";
import * as router from "../router.js";
import { failureWords, fileStatus, STATUS_FILTERS } from "../words.js";
import { h } from "../vdom.js";
import { declared, dropZone } from "./sending.js";

const PAGE = 50;
const RETRYABLE = new Set(["failed", "rejected"]);

export function tablesView(app, query) {
  const { status: wanted = "", kind = "table" } = query;
  const pages = new Pages((more) => app.api.get("/v1/files", { kind, status: wanted, limit: PAGE, ...more }), () => app.redraw());
  const narrow = (change) => router.go(["tables"], { kind, status: wanted, ...change });
  const form = { kind: "table", data_type: "", description: "" };

  async function retry(file) {
    try {
      await app.api.post(`/v1/uploads/${file.file_id}/retry`, {});
      app.announcer.show(`${file.name} is being checked again.`);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
    pages.refresh();
  }

  async function add(what) {
    try {
      const options = declared(form);
      // By itself the content decides; a data set that is JSON must not be refused for being no table.
      delete options.kind;
      await app.uploader.add(what, options);
      router.go(["uploads"]);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
  }

  return {
    title: () => "Tables",
    start(signal) {
      keepAsking(async () => {
        await pages.refresh();
        if (pages.error) throw pages.error;
        return pages.items.some((file) => !file.final) ? 2 : 15;
      }, signal, () => app.redraw());
    },
    render: () => [
      head("Tables", "CSV, TSV, JSON and text, read from the first byte to the last. What is wrong is named by line."),
      h("div", { class: "filters" },
        choice("Kind", [["table", "Tables"], ["json", "JSON"], ["text", "Text"]], kind, (value) => narrow({ kind: value })),
        select("Status", [["", "Any status"], ...STATUS_FILTERS], wanted, (value) => narrow({ status: value }))),
      trouble(pages.error, () => pages.refresh()),
      pages.items === null && !pages.error ? h("div", { class: "panel" }, bones(6))
      : pages.items?.length ? h("div", { class: "panel" }, table("Data sets", [
        { title: "Name", look: "name", cell: (file) => [h("a", { href: `#/files/${file.file_id}`, title: file.name }, shortened(file.name, 40)), file.description ? h("small", { class: "soft" }, file.description) : null] },
        { title: "Format", look: "wide", cell: (file) => badge(file) },
        { title: "Data type", look: "wide", cell: (file) => file.data_type ?? "" },
        { title: "Size", num: true, cell: (file) => bytes(file.size) },
        { title: "Status", look: "verdict", cell: (file) => [status(fileStatus(file.status)), file.failure ? h("small", { class: "row-error" }, failureWords(file.failure)) : null] },
        { title: "Begun", look: "wide", cell: (file) => h("span", { class: "num" }, ago(file.created_at, Date.now())) },
        { title: "", look: "act", cell: (file) => (RETRYABLE.has(file.status) ? button("Retry", () => retry(file), { look: "small", glyph: "retry", "aria-label": `Retry ${file.name}` }) : null) },
      ], pages.items, (file) => file.file_id))
      : pages.error ? null
      : empty("table", wanted ? "Nothing like this" : "No data sets yet", wanted ? "No data set has this status." : "Drop one below; its report says how many records it has, and what is wrong with which line."),
      pager({ page: pages.page, more: pages.more, busy: pages.busy, turn: (by) => pages.turn(by) }),
      panel("Add a data set", {}, h("div", { class: "body stack tight" },
        h("div", { class: "fields" }, ["data_type", "description"].map((name) => h("label", { class: "field", key: name }, h("span", {}, name === "data_type" ? "Data type" : "Description"),
          h("input", { type: "text", value: form[name], oninput: (event) => { form[name] = event.target.value; } })))),
        dropZone(app, add, { id: "drop-table", title: "Drop tables here", words: "Plain, gzip or zstd; up to 100 GB." }))),
    ],
  };
}

