// The library: files with their pictures, narrowed by status and kind, page by page; chosen ones become an archive.

import { confirm } from "../dialogs.js";
import { ago, bytes, counted, shortened } from "../format.js";
import { icon } from "../icons.js";
import { Pages } from "../pages.js";
import { badge, bones, button, empty, head, pager, picture, select, status, trouble } from "../parts.js";
import { keepAsking } from "../polling.js";
import * as router from "../router.js";
import { badge as badgeWords, fileStatus, KINDS, STATUS_FILTERS } from "../words.js";
import { h } from "../vdom.js";

const PAGE = 48;
const BUSY_S = 3;
const CALM_S = 15;
const GLYPHS = { dicom: "dicom", table: "table", json: "table", text: "file", archive: "archive" };

export function filesView(app, query) {
  const { status: wanted = "", kind = "", logical_id = "" } = query;
  const pages = new Pages((more) => app.api.get("/v1/files", { status: wanted, kind, logical_id, limit: PAGE, thumbnail: "true", ...more }), () => app.redraw());
  const narrow = (change) => router.go(["files"], { status: wanted, kind, logical_id, ...change });
  const filtered = wanted || kind || logical_id;
  let asked = logical_id;

  async function cleanUp() {
    const words = "Files that failed or were rejected more than a day ago are deleted for good, with what was kept of them.";
    if (!(await confirm("Clean up?", words, { agree: "Delete them" }))) return;
    try {
      let deleted = 0;
      for (let more = true; more;) {
        const answer = await app.api.remove("/v1/uploads", { status: "failed", hours_old: 24 });
        deleted += answer.deleted;
        more = answer.more;
      }
      app.announcer.show(`${counted(deleted, "file")} deleted.`);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
    pages.refresh();
  }

  return {
    title: () => "Files",
    start(signal) {
      keepAsking(async () => {
        await pages.refresh();
        if (pages.error) throw pages.error;
        return pages.items.some((file) => !file.final) ? BUSY_S : CALM_S;
      }, signal, () => app.redraw());
    },
    render: () => [
      head("Files", null, { actions: h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); narrow({ logical_id: asked.trim() }); } },
        h("input", { type: "search", "aria-label": "Document", placeholder: "Document", value: asked, oninput: (event) => { asked = event.target.value; } }),
        select("Kind", [["", "All kinds"], ...KINDS], kind, (value) => narrow({ kind: value })),
        select("Status", [["", "Any status"], ...STATUS_FILTERS], wanted, (value) => narrow({ status: value }))) }),
      logical_id ? h("p", { class: "soft" }, "Document ", h("strong", {}, logical_id), " · ", h("a", { href: router.address(["files"]) }, "all files")) : null,
      wanted === "failed" && pages.items?.length ? h("div", { class: "actions" }, button("Clean up", cleanUp, { look: "small", glyph: "bin" })) : null,
      trouble(pages.error, () => pages.refresh()),
      pages.items === null && !pages.error ? h("div", { class: "panel" }, bones(6))
      : pages.items?.length ? h("ul", { class: "gallery" }, pages.items.map((file) => card(app, file)))
      : pages.error ? null
      : filtered ? empty("search", "Nothing like this", "No file has this kind and this status.", button("Show all files", () => router.go(["files"]), {}))
      : empty("files", "No files yet", "What you upload appears here, with a preview where there can be one.", h("a", { class: "button primary", href: "#/uploads" }, "Upload files")),
      pager({ page: pages.page, more: pages.more, busy: pages.busy, turn: (by) => pages.turn(by) }),
      selection(app),
    ],
  };
}

/** What stands for a file without a picture: its kind, large. */
export function stand(file) {
  return h("span", { class: "stand-in" }, icon(GLYPHS[file.kind] ?? "file"), file.kind !== "dicom" && badgeWords(file) ? h("span", {}, badgeWords(file)) : null);
}

function card(app, file) {
  const words = fileStatus(file.status);
  const chosen = app.chosen.has(file.file_id);
  const archivable = file.status === "completed" || file.status === "completed_with_errors";
  return h("li", { key: file.file_id, class: `card ${chosen ? "chosen" : ""}` },
    h("a", { class: "card-link", href: `#/files/${file.file_id}` },
      h("span", { class: "card-picture" }, picture(file.thumbnail, app.pictures) ?? stand(file)),
      h("span", { class: "card-name", title: file.name }, shortened(file.name, 34))),
    h("p", { class: "card-facts" }, badge(file), h("span", { class: "num" }, bytes(file.size))),
    h("p", { class: "card-facts" }, status(words), h("span", { class: "num" }, ago(file.created_at, Date.now()))),
    archivable ? h("label", { class: "card-choice" }, h("span", { class: "unseen" }, `Choose ${file.name}`),
      h("input", { type: "checkbox", checked: chosen, onchange: (event) => {
        if (event.target.checked) app.chosen.set(file.file_id, file.name);
        else app.chosen.delete(file.file_id);
        app.redraw();
      } })) : null);
}

/** What is chosen, and what can be made of it. */
export function selection(app) {
  if (!app.chosen.size) return null;
  return h("div", { class: "selection", role: "region", "aria-label": "Chosen files" },
    h("strong", {}, counted(app.chosen.size, "file"), " chosen"),
    h("div", { class: "actions" },
      button("None", () => { app.chosen.clear(); app.redraw(); }, { look: "small quiet" }),
      h("a", { class: "button small primary", href: "#/archives?from=chosen" }, icon("archive"), h("span", {}, "Make an archive"))));
}
