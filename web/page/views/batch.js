// A batch: exact counts while it runs, what failed and why, and what came of it.

import { confirm } from "../dialogs.js";
import { count, counted, dicomDate, moment, percent, personName, shortened } from "../format.js";
import { icon } from "../icons.js";
import { badge, bones, button, facts, figures, head, pager, panel, status, table, trouble } from "../parts.js";
import { Pages } from "../pages.js";
import { keepAsking } from "../polling.js";
import * as router from "../router.js";
import { batchFigures, batchStatus, fileStatus, kindWords, modality, sentence } from "../words.js";
import { h } from "../vdom.js";

export function batchView(app, id) {
  const path = `/v1/batches/${encodeURIComponent(id)}`;
  const state = { batch: null, studies: [], error: null };
  const files = new Pages((more) => app.api.get(`${path}/files`, { limit: 50, ...more }), () => app.redraw());
  let signal = null;
  let lastCount = -1;

  async function read() {
    const batch = await app.api.get(path, {}, signal);
    state.batch = batch;
    state.error = null;
    if (!app.batches.all().some((one) => one.id === id)) app.batches.add(id, `Batch of ${counted(batch.total, "file")}`);
    app.redraw();
    if (batch.processed !== lastCount) {
      lastCount = batch.processed;
      files.refresh();
      app.api.get(`${path}/studies`, { limit: 100 }, signal).then(({ items }) => { state.studies = items; app.redraw(); }, () => {});
    }
    return batch.final ? 0 : 1;
  }

  const watch = () => keepAsking(read, signal, (error) => { state.error = error; app.redraw(); });

  async function act(what) {
    try {
      await what();
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
    if (!signal.aborted) watch();
  }

  const end = () => act(() => app.api.post(`${path}/complete`, {}));
  async function cancel() {
    if (await confirm("Cancel this batch?", "What is stored stays; everything else goes.", { agree: "Cancel the batch" })) await act(() => app.api.remove(path));
  }

  async function archive() {
    try {
      const made = await app.api.post("/v1/archives", { batch_id: id, on_missing: "skip" });
      app.archives.add(made.archive_id, made.name);
      router.go(["archives", made.archive_id]);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
  }

  const name = () => app.batches.all().find((one) => one.id === id)?.name ?? "Batch";

  return {
    title: () => (state.batch && !state.batch.final ? `${percent(state.batch.processed / state.batch.total)} · ${name()}` : name()),
    start(given) {
      signal = given;
      watch();
    },
    render: () => {
      const { batch } = state;
      const back = { href: "#/dicom", words: "DICOM" };
      if (!batch) return [head(name(), null, { back }), trouble(state.error, watch), state.error ? null : h("div", { class: "panel" }, bones(6))];
      return [
        head(name(), batch.message, { back, actions: [
          batch.final && batch.succeeded ? button("Archive", archive, { glyph: "archive" }) : null,
          batch.status === "open" ? button("No more files", end, { glyph: "done" }) : null,
          batch.final ? null : button("Cancel", cancel, { look: "danger", glyph: "cancel" }),
        ] }),
        trouble(state.error, watch),
        progress(batch),
        state.studies.length ? studies(state.studies) : null,
        problems("Errors", batch.errors, "bad"),
        problems("Warnings", batch.warnings, "warn"),
        panel("Files", { note: counted(batch.total, "file") },
          files.items === null ? bones(3) : table("Files of the batch", [
            { title: "No.", num: true, look: "wide", cell: (one) => count(one.n) },
            { title: "Name", look: "name", cell: (one) => h("a", { href: `#/files/${one.file_id}`, title: one.relative_path ?? one.name }, shortened(one.name ?? one.file_id, 44)) },
            { title: "Format", look: "wide", cell: (one) => badge(one) },
            { title: "Verdict", look: "verdict", cell: (one) => [status(fileStatus(one.verdict ?? one.status)), one.message ? h("small", { class: "row-error" }, one.message) : null] },
          ], files.items, (one) => one.n),
          files.more || files.page ? h("footer", {}, pager({ page: files.page, more: files.more, busy: files.busy, turn: (by) => files.turn(by) })) : null),
        panel("About", {}, h("div", { class: "body" }, facts([
          ["Kind", kindWords(batch.kind)],
          ["Facility", batch.facility],
          ["Begun", moment(batch.created_at)],
          ["Changed", moment(batch.updated_at)],
          ["Id", h("code", {}, batch.batch_id)],
        ]))),
      ];
    },
  };
}

function progress(batch) {
  const total = batch.total || 1;
  const label = `${count(batch.processed)} of ${count(batch.total)} files processed`;
  return h("section", { class: "panel", "aria-label": "Progress" },
    h("div", { class: "body stack tight" },
      h("p", { class: "file-line" }, status(batchStatus(batch.status)), h("span", { class: "num" }, label),
        batch.current_study && !batch.final ? h("span", { class: "soft clip" }, "now ", h("code", {}, batch.current_study)) : null),
      h("div", { class: "bar split", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": Math.floor((batch.processed / total) * 100) },
        batchFigures(batch).map(([name, number, tone]) => h("i", { key: name, class: tone, vars: { "--ratio": (number / total).toFixed(4) } })))),
    figures([
      ["Total", batch.total], ["Received", batch.received], ["Processed", batch.processed], ["Succeeded", batch.succeeded, batch.succeeded ? "good" : ""],
      ["Failed", batch.failed, batch.failed ? "bad" : ""], ["Duplicates", batch.duplicates], ["Skipped", batch.skipped], ["Studies", batch.studies],
    ]));
}

function problems(title, list, tone) {
  if (!list?.length) return null;
  return panel(title, { note: list.length >= 100 ? "the first 100" : counted(list.length, title.toLowerCase().replace(/s$/, "")) },
    h("ul", { class: "problems" }, list.map((one, place) => h("li", { key: `${one.n ?? ""} ${one.code} ${place}`, class: tone },
      icon("warn"),
      h("div", {}, one.file_id ? h("a", { href: `#/files/${one.file_id}` }, shortened(one.name ?? one.file_id)) : h("strong", {}, one.name ?? sentence(one.code)), h("p", {}, one.message))))));
}

export function studies(list) {
  return panel("Studies", { note: counted(list.length, "study", "studies") }, h("ul", { class: "study-cards" }, list.map((one) => h("li", { key: one.study_uid },
    h("a", { class: "study-card", href: router.address(["dicom", "studies", one.study_uid]) },
      h("strong", {}, one.patient_name ? personName(one.patient_name) : one.patient_id || "Unnamed"),
      h("span", {}, one.description || "No description"),
      h("span", { class: "soft num" }, [dicomDate(one.study_date), one.modalities.map(modality).join(", "), counted(one.series, "series", "series"), counted(one.instances, "image")].filter(Boolean).join(" · ")))))));
}
