// One file: its picture, what is known of it, what went wrong, what it went through.

import { confirm } from "../dialogs.js";
import { download } from "../downloads.js";
import { ago, bytes, count, counted, dicomDate, dimensions, duration, moment, shortened } from "../format.js";

import { badge, bones, button, facts, failure, head, notice, panel, picture, status, table, trouble } from "../parts.js";
import { keepAsking } from "../polling.js";
import * as router from "../router.js";
import { eventWords, fileStatus, kindWords, previewNote, sentence } from "../words.js";
import { h } from "../vdom.js";
import { stand } from "./files.js";

const TABULAR = new Set(["table", "json", "text"]);
const STORED = new Set(["fresh", "processing", "completed", "completed_with_errors"]);
const RETRYABLE = new Set(["failed", "rejected", "completed_with_errors"]);
const CANCELLABLE = new Set(["created", "uploading", "assembling", "staged", "validating", "scanning"]);
// Fresh signatures before the old ones die.
const CALM_S = 300;

export function fileView(app, id) {
  const state = { file: null, events: null, report: null, reportError: null, error: null, rules: null, busy: "" };
  let asked = "";
  let signal = null;

  async function read() {
    const path = `/v1/files/${encodeURIComponent(id)}`;
    const file = await app.api.get(path, {}, signal);
    state.file = file;
    state.error = null;
    app.redraw();
    // Trail and report change with the file alone.
    const version = `${file.status} ${file.updated_at}`;
    if (version !== asked) {
      asked = version;
      app.api.get(`${path}/events`, {}, signal).then(({ items }) => { state.events = items; app.redraw(); }, () => { state.events ??= []; });
      if (file.valid !== undefined) readReport(path);
    }
    return file.final ? CALM_S : 1;
  }

  async function readReport(path) {
    try {
      state.report = await (await app.api.stored(`${path}/report`)).json();
      state.reportError = null;
    } catch (error) {
      state.reportError = error.code === "no_report" ? null : error;
    }
    app.redraw();
  }

  const watch = () => keepAsking(read, signal, (error) => { state.error = error; app.redraw(); });

  async function act(name, what, done) {
    state.busy = name;
    app.redraw();
    try {
      await what();
      if (done) app.announcer.show(done);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
    state.busy = "";
    if (!signal.aborted) watch();
  }

  const retry = (body) => act("retry", () => app.api.post(`/v1/uploads/${id}/retry`, body), "Trying again.");
  const cancel = () => act("cancel", () => app.api.remove(`/v1/uploads/${id}`), "Cancelled.");
  async function remove() {
    if (!(await confirm("Delete this file?", `${state.file.name} and everything that was made of it is deleted, in every version. Its audit trail stays.`))) return;
    await act("delete", () => app.api.remove(`/v1/files/${id}`), `${state.file.name} is deleted.`);
    if (state.busy === "" && !signal.aborted) router.go(["files"]);
  }

  return {
    title: () => state.file?.name ?? "File",
    start(given) {
      signal = given;
      watch();
    },
    render: () => {
      const { file } = state;
      if (!file) return [head("File", null, { back: { href: "#/files", words: "Files" } }), trouble(state.error, watch), state.error ? null : h("div", { class: "panel" }, bones(6))];
      const words = fileStatus(file.status);
      return [
        head(file.name, null, {
          back: { href: "#/files", words: "Files" },
          actions: [
            STORED.has(file.status) ? button("Download", () => download(app, `/v1/files/${id}/content`), { look: "primary", glyph: "download" }) : null,
            RETRYABLE.has(file.status) ? button("Retry", () => retry({}), { glyph: "retry", disabled: Boolean(state.busy) }) : null,
            CANCELLABLE.has(file.status) ? button("Cancel", cancel, { glyph: "cancel", disabled: Boolean(state.busy) }) : null,
            file.final && file.status !== "deleted" ? button("Delete", remove, { look: "danger", glyph: "bin", disabled: Boolean(state.busy) }) : null,
          ],
        }),
        h("p", { class: "file-line" }, status(words), badge(file), h("span", { class: "num" }, bytes(file.size)), h("span", { class: "soft" }, ago(file.created_at, Date.now()))),
        trouble(state.error, watch),
        file.failure ? failure(file.failure) : null,
        h("div", { class: "file-columns" },
          h("div", { class: "stack" }, preview(app, file), state.report ? report(app, id, state, retry) : state.reportError ? trouble(state.reportError) : null, costs(file)),
          h("div", { class: "stack" }, known(file), file.dicom ? dicom(file) : null, trail(state.events))),
      ];
    },
  };
}

function preview(app, file) {
  const sorted = [...(file.thumbnails ?? [])].sort((one, other) => one.size - other.size);
  const large = sorted.at(-1);
  const note = previewNote(file);
  if (!large && TABULAR.has(file.kind)) return null;
  return h("figure", { class: "preview panel" },
    h("div", { class: "preview-frame" }, large ? picture(large, app.pictures, { alt: large.placeholder ? "Placeholder: no preview could be made" : `Preview of ${file.name}`, eager: true }) : stand(file)),
    h("figcaption", {},
      file.kind === "raw" && large && !large.placeholder ? h("span", { class: "badge raw" }, `${file.format ?? ""} RAW`.trim()) : null,
      h("span", {}, note || (large ? `${dimensions(large.width, large.height)} preview` : file.final ? "There is no preview of this kind of file." : "The preview is on its way."))));
}

function known(file) {
  const { checksums = {} } = file;
  return panel("Facts", {}, h("div", { class: "body" }, facts([
    ["Kind", kindWords(file.kind)],
    ["Format", file.format],
    ["Media type", file.media_type],
    ["Size", h("span", { class: "num" }, `${bytes(file.size)} (${count(file.size)} bytes)`)],
    ["Dimensions", dimensions(file.width, file.height)],
    ["Colour", file.mode && `${file.mode}${file.bits_per_sample ? `, ${file.bits_per_sample} bits` : ""}`],
    ["Compression", file.compression && sentence(file.compression)],
    ["Pages", file.pages > 1 ? count(file.pages) : null],
    ["Camera", [file.make, file.model].filter(Boolean).join(" ")],
    ["Taken", file.captured_at?.replace("T", " ")],
    ["Records", file.records === undefined ? null : count(file.records)],
    ["Document", file.logical_id && h("a", { href: router.address(["files"], { logical_id: file.logical_id }) }, file.logical_id)],
    ["Folder", file.relative_path],
    ["Data type", file.data_type],
    ["Description", file.description],
    ["SHA-256", checksums.sha256 && [h("code", {}, checksums.sha256), checksums.sha256_proven ? h("span", { class: "proof" }, "proven") : h("span", { class: "soft" }, " as declared")]],
    ["Composite", checksums.sha256_composite && h("code", {}, checksums.sha256_composite)],
    ["CRC-32", checksums.crc32 && h("code", {}, checksums.crc32)],
    ["Integrity", file.integrity === "sha256" ? "Every byte proven by S3 against a digest" : "Proven by size only"],
    ["Scan", file.scan && sentence(file.scan.status.toLowerCase())],
    ["Begun", moment(file.created_at)],
    ["Finished", file.finished_at && moment(file.finished_at)],
    ["Id", h("code", {}, file.file_id)],
  ])));
}

function dicom(file) {
  const { outcome, study_uid, series_uid, sop_uid, warnings = [] } = file.dicom;
  return panel("DICOM", {}, h("div", { class: "body" }, facts([
    ["Outcome", sentence(outcome)],
    ["Study", study_uid && h("a", { href: router.address(["dicom", "studies", study_uid]) }, h("code", {}, study_uid))],
    ["Series", series_uid && h("code", {}, series_uid)],
    ["Instance", sop_uid && h("code", {}, sop_uid)],
    ["Study date", dicomDate(file.study_date)],
    ["Warnings", warnings.length ? warnings.map(sentence).join(", ") : null],
  ])));
}

function trail(events) {
  return panel("Audit trail", { note: events ? counted(events.length, "event") : null },
    events === null ? bones(3)
    : h("ol", { class: "trail" }, [...events].reverse().map((event) => h("li", { key: `${event.at} ${event.event}`, class: fileStatus(event.to).tone },
      h("strong", {}, eventWords(event.event)),
      h("span", { class: "soft num" }, moment(event.at)),
      h("span", { class: "soft" }, `by ${event.by}`),
      event.code ? h("span", { class: "soft" }, sentence(event.code)) : null))));
}

function costs(file) {
  const stages = Object.entries(file.stages ?? {});
  if (!stages.length) return null;
  return panel("What it took", { note: `${bytes(file.bytes_read)} read in ${counted(file.requests, "request")}` },
    file.decision ? h("p", { class: "body decision" }, h("strong", {}, sentence(file.decision.method)), ` — ${file.decision.reason}`) : null,
    table("What each function did", [
      { title: "Function", cell: ([name]) => sentence(name) },
      { title: "Read", num: true, cell: ([, one]) => bytes(one.bytes_in) },
      { title: "Requests", num: true, cell: ([, one]) => count(one.requests) },
      { title: "Peak memory", num: true, cell: ([, one]) => bytes(one.memory_peak_bytes) },
      { title: "Time", num: true, cell: ([, one]) => (one.ms === undefined ? "–" : one.ms < 1000 ? `${Math.round(one.ms)} ms` : duration(one.ms / 1000)) },
    ], stages, ([name]) => name));
}

function report(app, id, state, retry) {
  const { report: found } = state;
  const codes = Object.entries(found.counts ?? {});
  const warnings = Object.entries(found.warnings ?? {});
  return panel("Validation report", { note: found.valid ? "valid" : counted(codes.reduce((sum, [, number]) => sum + number, 0), "error") },
    h("div", { class: "body stack tight" },
      found.valid ? notice("good", `${count(found.records)} records in ${counted(found.lines ?? 0, "line")}: nothing is wrong.`) : null,
      facts([
        ["Format", [found.format, found.compression, found.encoding].filter(Boolean).join(", ")],
        ["Records", `${count(found.records)}${found.bad_records ? `, ${count(found.bad_records)} with errors` : ""}`],
        ["Lines", count(found.lines)],
        ["Stopped", found.stopped_by && `by the rule ${found.stopped_by}`],
      ]),
      codes.length || warnings.length ? h("ul", { class: "tags" },
        codes.map(([code, number]) => h("li", { key: code, class: "tag bad" }, sentence(code), h("b", { class: "num" }, count(number)))),
        warnings.map(([code, number]) => h("li", { key: code, class: "tag warn" }, sentence(code), h("b", { class: "num" }, count(number))))) : null),
    found.errors?.length ? table("Errors by line", [
      { title: "Line", num: true, cell: (one) => count(one.line) },
      { title: "Column", cell: (one) => one.field ?? (one.column ? count(one.column) : "–") },
      { title: "What is wrong", look: "what", cell: (one) => [h("span", {}, one.message), one.excerpt ? h("code", { class: "excerpt" }, shortened(String(one.excerpt), 120)) : null] },
    ], found.errors, (one) => `${one.line}:${one.column ?? ""}:${one.code}:${one.byte_offset ?? ""}`) : null,
    h("footer", { class: "actions" },
      found.errors_truncated ? button("All errors", () => download(app, `/v1/files/${id}/report`, { errors: "true" }), { look: "small", glyph: "download" }) : null,
      button("Report as JSON", () => download(app, `/v1/files/${id}/report`), { look: "small", glyph: "download" }),
      h("details", { class: "again" }, h("summary", {}, "Check again with other rules"),
        h("label", { class: "field" }, h("span", { class: "unseen" }, "Rules as JSON"), h("textarea", { spellcheck: "false", placeholder: '{"max_errors": 10}', oninput: (event) => { state.rules = event.target.value; } })),
        button("Check again", () => {
          try {
            retry({ rules: JSON.parse(state.rules || "{}") });
          } catch (error) {
            app.announcer.show(`The rules are no JSON: ${error.message}`, { tone: "bad" });
          }
        }, { look: "small" }))));
}

