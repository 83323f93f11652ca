// Sending: the drop zone, what is on its way, what an earlier page left unfinished.

import { confirm } from "../dialogs.js";
import { bytes, count, counted, duration, percent, shortened, speed, steady, timeLeft } from "../format.js";
import { icon } from "../icons.js";
import { badge, bar, button, head, notice, panel, status } from "../parts.js";
import { batchFigures, batchStatus, failureWords, KINDS, uploadState, uploadWords } from "../words.js";
import { h } from "../vdom.js";
import { declared, dropZone } from "./sending.js";

// A folder of thousands is one line; of loose files so many are shown, those first in which something happens.
const ROWS = 60;
const RANK = { uploading: 0, preparing: 0, assembling: 0, paused: 0, failed: 1, processing: 2, queued: 3, done: 4, cancelled: 5 };
const ENDED = new Set(["done", "failed", "cancelled"]);

const leftOf = new WeakMap();

/** Words for the time left of a file, a batch or everything, which stand still while the estimate trembles. */
function left(subject) {
  if (!leftOf.has(subject)) leftOf.set(subject, steady());
  return leftOf.get(subject)(timeLeft(subject.progress.seconds_left));
}

export function uploadsView(app) {
  const { uploader } = app;
  const form = { kind: "", data_type: "", description: "", logical_id: "", facility: "", rules: "" };
  const state = { error: null, problems: [], resumable: [], shown: ROWS };

  async function add(what, options = {}) {
    try {
      const added = await uploader.add(what, { ...declared(form), ...options });
      state.error = null;
      state.problems = added.problems;
      const size = added.files.reduce((sum, file) => sum + file.size, 0);
      if (added.files.length) app.announcer.say(`${counted(added.files.length, "file")} added, ${bytes(size)}`);
    } catch (error) {
      state.error = error;
    }
    app.redraw();
  }

  async function findUnfinished() {
    state.resumable = await uploader.resumable().catch(() => []);
    app.redraw();
  }

  async function resume(one, again) {
    try {
      await one.resume(again);
      state.error = null;
    } catch (error) {
      state.error = error;
    }
    await findUnfinished();
  }

  async function discard(one) {
    if (!(await confirm("Discard this upload?", `${one.name}: what has been sent of it is deleted.`, { agree: "Discard" }))) return;
    await one.discard().catch((error) => { state.error = error; });
    await findUnfinished();
  }

  return {
    title: () => (uploader.progress.files && app.running() ? `${percent(uploader.progress.ratio)} · Uploads` : "Uploads"),
    start(signal) {
      findUnfinished();
      uploader.addEventListener("idle", findUnfinished, { signal });
    },
    render: () => {
      const loose = uploader.files.filter((file) => !file.batch);
      return [
        head("Uploads", "Files go from this browser straight into storage, in proven parts. Close the page at any time: an upload goes on when its file is chosen again."),
        state.error ? notice("bad", state.error.message) : null,
        dropZone(app, add),
        declaration(form, () => app.redraw()),
        state.problems.length ? unread(state.problems) : null,
        overall(app),
        uploader.batches.filter((batch) => !ENDED.has(batch.state)).map((batch) => batchRow(batch)),
        loose.length ? queue(app, loose, state) : null,
        uploader.batches.filter((batch) => ENDED.has(batch.state)).map((batch) => batchRow(batch)),
        state.resumable.length ? unfinished(state.resumable, resume, discard) : null,
      ];
    },
  };
}

function declaration(form, redraw) {
  const field = (name, title, hint, extra = {}) => h("label", { class: "field" }, h("span", {}, title),
    h("input", { type: "text", value: form[name], oninput: (event) => { form[name] = event.target.value; }, ...extra }), h("span", { class: "hint" }, hint));
  let wrong = "";
  if (form.rules.trim()) {
    try {
      JSON.parse(form.rules);
    } catch (error) {
      wrong = error.message;
    }
  }
  return h("details", { class: "declare", key: "declare" },
    h("summary", {}, "Say more about the next files"),
    h("div", { class: "fields" },
      h("label", { class: "field" }, h("span", {}, "Kind"),
        h("select", { value: form.kind, onchange: (event) => { form.kind = event.target.value; redraw(); } }, h("option", { value: "" }, "By content"), KINDS.map(([value, words]) => h("option", { value }, words))),
        h("span", { class: "hint" }, "Held against the bytes")),
      field("logical_id", "Document", "Files of one document belong together"),
      field("data_type", "Data type", "Such as orders or sensor-readings"),
      field("description", "Description", "For people"),
      field("facility", "Facility", "Of a folder: where it comes from")),
    h("label", { class: "field rules" }, h("span", {}, "Rules for tables, JSON and text"),
      h("textarea", { value: form.rules, spellcheck: "false", placeholder: '{"unique_keys": ["id"], "max_errors": 10}', oninput: (event) => { form.rules = event.target.value; redraw(); }, "aria-invalid": wrong ? "true" : null, "aria-describedby": "rules-hint" }),
      h("span", { class: "hint", id: "rules-hint" }, wrong ? `This is no JSON yet: ${wrong}` : "JSON; a schema, keys, limits")));
}

function unread(problems) {
  return notice("warn", `${counted(problems.length, "item")} could not be read: ${problems.slice(0, 5).map(({ path, message }) => `${path} (${message})`).join(", ")}${problems.length > 5 ? ", …" : ""}`);
}

function overall(app) {
  const { uploader } = app;
  const { progress } = uploader;
  if (!progress.files) return null;
  const running = app.running();
  const failed = progress.files_failed;
  const ended = progress.files_done + failed;
  const checked = uploader.files.filter((file) => file.state === "processing").length;
  const words = running ? `${counted(running, "file")} in work` : checked ? `All sent, ${counted(checked, "file")} being checked` : failed ? `${counted(failed, "file")} failed` : "All done";
  const again = uploader.files.some((file) => file.state === "failed" && file.error?.retryable !== false);
  const wait = left(uploader);
  return h("section", { class: "panel overall", "aria-label": "All uploads", key: "overall" },
    h("div", { class: "overall-figures" },
      h("p", { class: "big num" }, percent(progress.ratio)),
      h("p", {}, h("strong", {}, words),
        h("span", { class: "soft num" }, `${bytes(progress.bytes)} of ${bytes(progress.size)} · ${count(ended)} of ${counted(progress.files, "file")}`)),
      h("p", { class: "pace num" }, running && progress.speed_bytes_s ? [h("strong", {}, speed(progress.speed_bytes_s)), h("span", { class: "soft" }, wait)] : null),
      h("div", { class: "actions" },
        running ? uploader.paused ? button("Resume all", () => uploader.resume(), { look: "small primary", glyph: "play" }) : button("Pause all", () => uploader.pause(), { look: "small", glyph: "pause" }) : null,
        again ? button("Retry failed", () => uploader.retry(), { look: "small", glyph: "retry" }) : null,
        ended && !running && !checked ? button("Clear", () => uploader.clear(), { look: "small", glyph: "done" }) : null)),
    bar(progress.ratio, { label: "Progress of all uploads", tone: running ? "" : failed ? "bad" : "good" }));
}

/** Buttons of a file or a batch. */
function controls(subject, name) {
  const list = [];
  if (subject.state === "paused") list.push(button("", () => subject.resume(), { look: "quiet small icon", glyph: "play", label: `Resume ${name}` }));
  else if (["queued", "preparing", "uploading"].includes(subject.state)) list.push(button("", () => subject.pause(), { look: "quiet small icon", glyph: "pause", label: `Pause ${name}` }));
  if (subject.state === "failed" && subject.error?.retryable !== false) list.push(button("Retry", () => subject.retry(), { look: "small", glyph: "retry", "aria-label": `Retry ${name}` }));
  if (!ENDED.has(subject.state) && subject.state !== "processing") list.push(button("", () => subject.cancel(), { look: "quiet small icon", glyph: "cancel", label: `Cancel ${name}` }));
  return list;
}

function queue(app, files, state) {
  const sorted = [...files].sort((one, other) => RANK[one.state] - RANK[other.state]);
  const shown = sorted.slice(0, state.shown);
  const rest = files.length - shown.length;
  return panel("Files", { note: counted(files.length, "file"), key: "loose" },
    h("ul", { class: "queue" }, shown.map((file) => fileRow(file))),
    rest > 0 ? h("footer", {}, button(`Show more (${count(rest)})`, () => { state.shown += 200; app.redraw(); }, { look: "small" })) : null);
}

function fileRow(file) {
  const words = uploadWords(file.state, file.record);
  const failure = file.error?.message ?? failureWords(file.record?.failure);
  const moving = ["uploading", "paused", "assembling"].includes(file.state) || (file.state === "preparing" && file.progress.bytes > 0);
  const tone = { failed: "bad", paused: "quiet" }[file.state] ?? "";
  return h("li", { key: file.id, class: `row ${file.state}` },
    h("span", { class: "row-icon" }, icon("file")),
    h("div", { class: "row-main" },
      h("div", { class: "row-title" },
        file.file_id && (file.state === "done" || file.state === "processing" || (file.state === "failed" && file.record?.final)) ? h("a", { class: "clip name", href: `#/files/${file.file_id}`, title: file.name }, shortened(file.name)) : h("span", { class: "clip name", title: file.name }, shortened(file.name)),
        file.record ? badge(file.record) : null),
      moving ? bar(file.state === "assembling" ? null : file.progress.ratio, { label: `Progress of ${file.name}`, tone }) : null,
      h("p", { class: "row-facts num" },
        moving && file.state !== "assembling" ? `${bytes(file.progress.bytes)} of ${bytes(file.size)}` : bytes(file.size),
        file.state === "uploading" && file.progress.speed_bytes_s ? ` · ${speed(file.progress.speed_bytes_s)}` : null,
        file.state === "uploading" && left(file) ? ` · ${left(file)}` : null,
        file.bytes_resumed ? ` · ${bytes(file.bytes_resumed)} were there already` : null),
      file.notice ? h("p", { class: "row-facts" }, file.notice) : null,
      failure ? h("p", { class: "row-error" }, failure) : null),
    h("div", { class: "row-status" }, status(words)),
    h("div", { class: "row-controls" }, controls(file, file.name)));
}

function batchRow(batch) {
  const { progress, record } = batch;
  const failed = batch.files.filter((file) => file.state === "failed");
  const kept = record ? batchFigures(record) : [];
  const words = batch.state === "done" && record ? batchStatus(record.status) : uploadState(batch.state);
  const sending = ["uploading", "preparing", "paused", "queued"].includes(batch.state);
  return h("section", { class: "panel batch", key: `batch-${batch.id}`, "aria-label": batch.name },
    h("div", { class: "row" },
      h("span", { class: "row-icon" }, icon("folder")),
      h("div", { class: "row-main" },
        h("div", { class: "row-title" }, batch.batch_id ? h("a", { class: "clip name", href: `#/batches/${batch.batch_id}` }, shortened(batch.name)) : h("span", { class: "clip name" }, shortened(batch.name)),
          h("span", { class: "badge" }, counted(progress.files, "file"))),
        sending || batch.state === "processing" ? bar(batch.state === "processing" ? (record?.total ? record.processed / record.total : null) : progress.ratio, { label: `Progress of ${batch.name}`, tone: batch.state === "paused" ? "quiet" : "" }) : null,
        h("p", { class: "row-facts num" },
          sending ? `${bytes(progress.bytes)} of ${bytes(progress.size)} · ${count(progress.files_done)} of ${count(progress.files)} files` : record?.message ?? bytes(progress.size),
          batch.state === "uploading" && progress.speed_bytes_s ? ` · ${speed(progress.speed_bytes_s)}${left(batch) ? ` · ${left(batch)}` : ""}` : null),
        kept.length ? h("p", { class: "row-facts" }, kept.map(([name, number, tone]) => h("span", { key: name, class: `tone ${tone}` }, `${count(number)} ${name}`))) : null,
        batch.notice ? h("p", { class: "row-facts" }, batch.notice) : null,
        batch.error ? h("p", { class: "row-error" }, batch.error.message) : null),
      h("div", { class: "row-status" }, status(words)),
      h("div", { class: "row-controls" }, controls(batch, batch.name))),
    failed.length ? h("ul", { class: "queue" }, failed.slice(0, 20).map((file) => fileRow(file))) : null);
}

function unfinished(list, resume, discard) {
  return panel("Not finished", { note: "begun in this browser" },
    h("ul", { class: "queue" }, list.map((one) => h("li", { class: "row", key: one.id },
      h("span", { class: "row-icon" }, icon(one.kind === "batch" ? "folder" : "file")),
      h("div", { class: "row-main" },
        h("div", { class: "row-title" }, h("span", { class: "clip name" }, shortened(one.name)), one.kind === "batch" ? h("span", { class: "badge" }, counted(one.files, "file")) : null),
        bar(one.size ? one.bytes / one.size : 0, { label: `Sent of ${one.name}`, tone: "quiet" }),
        h("p", { class: "row-facts num" }, `${bytes(one.bytes)} of ${bytes(one.size)} are there · begun ${duration((Date.now() - Date.parse(one.began_at)) / 1000)} ago`)),
      h("div", { class: "row-controls" },
        one.has_handle ? button("Go on", () => resume(one), { look: "small primary", glyph: "play", "aria-label": `Go on with ${one.name}` }) : chooser(one, resume),
        button("", () => discard(one), { look: "quiet small icon", glyph: "bin", label: `Discard ${one.name}` }))))));
}

/** Asks for the same file, or folder, again; the engine compares its bytes before it skips any. */
function chooser(one, resume) {
  const folder = one.kind === "batch";
  return h("label", { class: "button small primary file-button" }, icon(folder ? "folder" : "file"), h("span", {}, folder ? "Choose the folder again" : "Choose it again"),
    h("input", { type: "file", class: "unseen", webkitdirectory: folder, "aria-label": `Choose ${one.name} again`, onchange: (event) => { const files = [...event.target.files]; event.target.value = ""; if (files.length) resume(one, files); } }));
}
