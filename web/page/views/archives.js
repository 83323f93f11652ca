// Packages: what to pack, how far it is, the download.

import { confirm } from "../dialogs.js";
import { download } from "../downloads.js";
import { ago, bytes, count, counted, moment, shortened } from "../format.js";
import { icon } from "../icons.js";
import { bar, bones, button, choice, empty, facts, failure, figures, head, notice, pager, panel, status, table, trouble } from "../parts.js";
import { Pages } from "../pages.js";
import { keepAsking } from "../polling.js";
import * as router from "../router.js";
import { archiveStatus } from "../words.js";
import { h } from "../vdom.js";

const SOURCES = [["files", "Chosen files"], ["logical_id", "A document"], ["batch_id", "A batch"], ["study_uid", "A study"]];
const HINTS = { logical_id: "Its logical id, such as box7", batch_id: "The batch's id", study_uid: "The study's UID" };

export function archivesView(app, query) {
  const state = { archives: new Map(), error: null, source: app.chosen.size || query.from === "chosen" ? "files" : "logical_id", value: "", name: "", package: "plain", skip: false, busy: false, refused: null };
  let signal = null;

  async function read() {
    let open = false;
    for (const { id } of app.archives.all()) {
      const known = state.archives.get(id);
      if (known && known.final && known.status !== "completed") continue;
      try {
        state.archives.set(id, await app.api.get(`/v1/archives/${id}`, {}, signal));
      } catch (error) {
        if (error.status !== 404) throw error;
        app.archives.forget(id);
        continue;
      }
      open ||= !state.archives.get(id).final;
      app.redraw();
    }
    state.error = null;
    app.redraw();
    return open ? 1 : 60;
  }

  const look = () => keepAsking(read, signal, (error) => { state.error = error; app.redraw(); });

  async function build(event) {
    event.preventDefault();
    state.busy = true;
    app.redraw();
    try {
      const wanted = state.source === "files" ? { file_ids: [...app.chosen.keys()] } : { [state.source]: state.value.trim() };
      const made = await app.api.post("/v1/archives", { ...wanted, package: state.package, on_missing: state.skip ? "skip" : "fail", ...(state.name.trim() ? { name: state.name.trim() } : {}) });
      app.archives.add(made.archive_id, made.name);
      if (state.source === "files") app.chosen.clear();
      router.go(["archives", made.archive_id]);
    } catch (error) {
      state.refused = error;
    }
    state.busy = false;
    app.redraw();
  }

  return {
    title: () => "Archives",
    start(given) {
      signal = given;
      look();
    },
    render: () => [
      head("Archives", "Stored files as one ZIP, put together inside the storage itself: what is large in it passes through no function."),
      trouble(state.error, look),
      builder(app, state, build),
      app.archives.all().length ? panel("Built", { note: "from this browser" }, h("ul", { class: "queue" }, app.archives.all().map((one) => row(app, one, state.archives.get(one.id)))))
      : empty("archive", "No archives yet", "Choose files in the library, or name a document, a batch or a study above."),
    ],
  };
}

function builder(app, state, build) {
  const ready = state.source === "files" ? app.chosen.size > 0 : state.value.trim() !== "";
  return panel("Build an archive", {}, h("form", { class: "body stack tight", onsubmit: build },
    choice("What to pack", SOURCES, state.source, (value) => { state.source = value; state.refused = null; app.redraw(); }),
    state.source === "files"
      ? app.chosen.size
        ? h("ul", { class: "tags" }, [...app.chosen].map(([id, name]) => h("li", { key: id, class: "tag" }, h("span", {}, shortened(name, 32)), h("button", { type: "button", class: "tag-remove", "aria-label": `Leave ${name} out`, onclick: () => { app.chosen.delete(id); app.redraw(); } }, icon("cancel")))))
        : h("p", { class: "soft" }, "No files are chosen. ", h("a", { href: "#/files" }, "Choose some in the library."))
      : h("label", { class: "field", key: state.source }, h("span", {}, SOURCES.find(([value]) => value === state.source)[1]),
        h("input", { type: "text", value: state.value, spellcheck: "false", oninput: (event) => { state.value = event.target.value; app.redraw(); } }), h("span", { class: "hint" }, HINTS[state.source])),
    h("div", { class: "fields" },
      h("label", { class: "field" }, h("span", {}, "Name"), h("input", { type: "text", value: state.name, placeholder: "By itself", oninput: (event) => { state.name = event.target.value; } })),
      h("label", { class: "field" }, h("span", {}, "Package"), h("select", { value: state.package, onchange: (event) => { state.package = event.target.value; app.redraw(); } },
        h("option", { value: "plain" }, "Files, METS and a table"), h("option", { value: "bagit" }, "A bag (BagIt 1.0)"))),
      h("label", { class: "field check" }, h("input", { type: "checkbox", checked: state.skip, onchange: (event) => { state.skip = event.target.checked; app.redraw(); } }), h("span", {}, "Leave out what is missing"))),
    state.refused ? notice("bad", state.refused.message) : null,
    h("div", { class: "actions" }, h("button", { type: "submit", class: "button primary", disabled: !ready || state.busy }, icon("archive"), h("span", {}, state.busy ? "Asking…" : "Build")))));
}

function row(app, one, archive) {
  const done = archive?.status === "completed";
  return h("li", { key: one.id, class: "row" },
    h("span", { class: "row-icon" }, icon("archive")),
    h("div", { class: "row-main" },
      h("div", { class: "row-title" }, h("a", { class: "clip name", href: `#/archives/${one.id}` }, archive?.name ?? one.name)),
      archive && !archive.final ? bar(archive.progress.bytes_total ? archive.progress.percent / 100 : null, { label: `Progress of ${archive.name}` }) : null,
      h("p", { class: "row-facts num" }, !archive ? "Looking…" : done ? `${bytes(archive.size)} · ${counted(archive.members, "member")} · expires ${ago(archive.expires_at, Date.now())}` : archive.failure ? archive.failure.message : `${bytes(archive.progress.bytes_done)} of ${bytes(archive.progress.bytes_total)} in place`)),
    h("div", { class: "row-status" }, archive ? status(archiveStatus(archive.status)) : null),
    h("div", { class: "row-controls" }, done ? button("Download", () => download(app, `/v1/archives/${one.id}/content`), { look: "small primary", glyph: "download", "aria-label": `Download ${archive.name}` }) : null,
      !archive || archive.final ? button("", () => { app.archives.forget(one.id); app.redraw(); }, { look: "quiet small icon", glyph: "cancel", label: `Take ${one.name} off this list` }) : null));
}

export function archiveView(app, id) {
  const path = `/v1/archives/${encodeURIComponent(id)}`;
  const state = { archive: null, error: null };
  const members = new Pages((more) => app.api.get(`${path}/members`, { limit: 50, ...more }), () => app.redraw());
  let signal = null;

  async function read() {
    const archive = await app.api.get(path, {}, signal);
    const before = state.archive?.status;
    state.archive = archive;
    state.error = null;
    app.redraw();
    if (archive.status === "completed" && before !== "completed") {
      if (before) app.announcer.show(`${archive.name} is ready.`);
      members.restart();
    }
    return archive.final ? 0 : 0.7;
  }

  const look = () => keepAsking(read, signal, (error) => { state.error = error; app.redraw(); });

  async function cancel() {
    if (!(await confirm("Cancel this archive?", "Nothing of its making is left.", { agree: "Cancel the archive" }))) return;
    try {
      await app.api.remove(path);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
    look();
  }

  async function member(one) {
    try {
      const { url, headers, name } = await app.api.get(`${path}/members/${one.n}/content`);
      const answer = await fetch(url, { headers });
      if (!answer.ok) throw new Error(`Storage answered ${answer.status}.`);
      const anchor = document.createElement("a");
      anchor.href = URL.createObjectURL(await answer.blob());
      anchor.download = name.split("/").at(-1);
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
  }

  return {
    title: () => state.archive?.name ?? "Archive",
    start(given) {
      signal = given;
      look();
    },
    render: () => {
      const { archive } = state;
      const back = { href: "#/archives", words: "Archives" };
      if (!archive) return [head("Archive", null, { back }), trouble(state.error, look), state.error ? null : h("div", { class: "panel" }, bones(4))];
      const { progress } = archive;
      return [
        head(archive.name, null, { back, actions: [
          archive.status === "completed" ? button("Download", () => download(app, `${path}/content`), { look: "primary", glyph: "download" }) : null,
          archive.final ? null : button("Cancel", cancel, { look: "danger", glyph: "cancel" }),
        ] }),
        h("p", { class: "file-line" }, status(archiveStatus(archive.status)), archive.expires_at ? h("span", { class: "soft" }, `expires ${ago(archive.expires_at, Date.now())}`) : null, archive.reused ? h("span", { class: "soft" }, "was there already") : null),
        trouble(state.error, look),
        failure(archive.failure),
        archive.final ? null : h("section", { class: "panel", "aria-label": "Progress" }, h("div", { class: "body stack tight" },
          h("p", { class: "num" }, `${bytes(progress.bytes_done)} of ${bytes(progress.bytes_total)} in place · ${count(progress.members_done)} members · ${count(progress.parts_done)} of ${count(archive.parts)} parts`),
          bar(progress.bytes_total ? progress.percent / 100 : null, { label: "Progress of the archive" }))),
        figures([
          ["Size", bytes(archive.size)], ["Members", archive.members], ["Left out", archive.missing, archive.missing ? "bad" : ""],
          ["Through functions", bytes(archive.bytes_through)], ["Parts", archive.parts], ["Requests", archive.requests],
        ]),
        members.items?.length ? panel("Members", { note: counted(archive.members, "member") }, table("Members", [
          { title: "Name", look: "name", cell: (one) => h("span", { class: "wrap" }, one.name) },
          { title: "Size", num: true, cell: (one) => bytes(one.size) },
          { title: "CRC-32", look: "wide", cell: (one) => h("code", {}, one.crc32) },
          { title: "", look: "act", cell: (one) => (one.size && one.size <= 64e6 ? button("", () => member(one), { look: "quiet small icon", glyph: "download", label: `Download ${one.name} alone` }) : null) },
        ], members.items, (one) => one.n),
        members.more || members.page ? h("footer", {}, pager({ page: members.page, more: members.more, busy: members.busy, turn: (by) => members.turn(by) })) : null) : null,
        panel("About", {}, h("div", { class: "body" }, facts([
          ["Package", archive.package === "bagit" ? "A bag (BagIt 1.0)" : "Files, METS and a table"],
          ["Missing files", archive.on_missing === "skip" ? "are left out" : "fail it"],
          ["CRC-32", archive.crc32 && [h("code", {}, archive.crc32), h("span", { class: "proof" }, "proven by S3")]],
          ["Asked for", moment(archive.created_at)],
          ["Ready", archive.finished_at && moment(archive.finished_at)],
          ["Id", h("code", {}, archive.archive_id)],
        ]))),
      ];
    },
  };
}
