// DICOM: the studies of the archive, the folders sent from this browser, and where the next one goes in.

import * as dicom from "../dicom.js";
import { ago, count, counted, dicomDate, personName } from "../format.js";
import { icon } from "../icons.js";
import { bones, button, empty, head, panel, status, table, trouble } from "../parts.js";
import { keepAsking } from "../polling.js";
import * as router from "../router.js";
import { batchStatus, modality } from "../words.js";
import { h } from "../vdom.js";
import { dropZone } from "./sending.js";

const PAGE = 50;
const FIELDS = "00081030,00080061,00201206,00201208";

export function studiesView(app, query) {
  const { patient = "", offset = "0" } = query;
  const start = Number(offset) || 0;
  const state = { studies: null, error: null, batches: new Map(), search: patient };
  let signal = null;

  async function read() {
    const wanted = patient.trim();
    const filter = !wanted ? {} : /\d/.test(wanted) ? { PatientID: wanted } : { PatientName: `*${wanted}*` };
    const found = await app.api.dicom("/v1/dicomweb/studies", { ...filter, limit: PAGE + 1, offset: start || undefined, includefield: FIELDS }, signal);
    state.studies = found.map(dicom.study);
    state.error = null;
    app.redraw();
    return 15;
  }

  async function readBatches() {
    let open = false;
    for (const { id } of app.batches.all().slice(0, 8)) {
      const known = state.batches.get(id);
      if (known?.final || known === null) continue;
      try {
        state.batches.set(id, await app.api.get(`/v1/batches/${id}`, {}, signal));
        open ||= !state.batches.get(id).final;
      } catch (error) {
        if (error.status === 404) app.batches.forget(id);
        else throw error;
      }
    }
    app.redraw();
    return open ? 2 : 0;
  }

  async function add(what) {
    try {
      await app.uploader.add(what, { kind: "dicom", batch: true });
      router.go(["uploads"]);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
  }

  const look = () => keepAsking(read, signal, (error) => { state.error = error; app.redraw(); });

  return {
    title: () => "DICOM",
    start(given) {
      signal = given;
      look();
      keepAsking(readBatches, signal, () => {});
    },
    render: () => [
      head("DICOM", "Whole folders, thousands of files: each becomes one instance of a series of a study, once."),
      dropZone(app, add, { id: "drop-dicom", folder: true, title: "Drop a DICOM folder here", words: "Every file in it, whatever it is called; ZIP and tar, too. Strays are told apart." }),
      app.batches.all().length ? folders(app, state) : null,
      panel("Studies", {
        note: state.studies ? counted(Math.min(state.studies.length, PAGE), "study", "studies") : null,
        actions: h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); router.go(["dicom"], { patient: state.search }); } },
          h("input", { type: "search", "aria-label": "Patient's name or ID", placeholder: "Patient's name or ID", value: state.search, oninput: (event) => { state.search = event.target.value; } }),
          h("button", { type: "submit", class: "button" }, icon("search"), h("span", {}, "Find"))),
      },
      state.error ? h("div", { class: "body" }, trouble(state.error, look)) : null,
      state.studies === null ? (state.error ? null : bones(4))
      : state.studies.length ? table("Studies", [
        { title: "Patient", look: "name", cell: (one) => [h("a", { href: router.address(["dicom", "studies", one.uid]) }, personName(one.patient) || one.patientId || "Unnamed"), one.patientId ? h("small", { class: "soft" }, one.patientId) : null] },
        { title: "Study", look: "name", cell: (one) => [h("span", {}, one.description || "–"), one.accession ? h("small", { class: "soft" }, one.accession) : null] },
        { title: "Date", cell: (one) => h("span", { class: "num" }, dicomDate(one.date)) },
        { title: "Modality", look: "wide", cell: (one) => one.modalities.map((code) => h("span", { key: code, class: "badge", title: modality(code) }, code)) },
        { title: "Series", num: true, look: "wide", cell: (one) => count(one.series) },
        { title: "Images", num: true, cell: (one) => count(one.instances) },
      ], state.studies.slice(0, PAGE), (one) => one.uid)
      : empty("dicom", patient ? "No such study" : "No studies yet", patient ? "No study has this patient." : "A folder that is sent becomes its studies here."),
      start || state.studies?.length > PAGE ? h("footer", {}, h("nav", { class: "pager", "aria-label": "Pages" },
        button("Newer", () => router.go(["dicom"], { patient, offset: Math.max(0, start - PAGE) || "" }), { glyph: "back", disabled: !start }),
        button("Older", () => router.go(["dicom"], { patient, offset: start + PAGE }), { glyph: "next", disabled: !(state.studies?.length > PAGE) }))) : null),
    ],
  };
}

function folders(app, state) {
  return panel("Folders sent", { note: "from this browser" }, h("ul", { class: "queue" }, app.batches.all().slice(0, 8).map((one) => {
    const batch = state.batches.get(one.id);
    return h("li", { key: one.id, class: "row" },
      h("span", { class: "row-icon" }, icon("folder")),
      h("div", { class: "row-main" },
        h("div", { class: "row-title" }, h("a", { class: "clip name", href: `#/batches/${one.id}` }, one.name || one.id)),
        h("p", { class: "row-facts" }, `${batch ? batch.message : "Looking…"} · ${ago(one.at, Date.now())}`)),
      h("div", { class: "row-status" }, batch ? status(batchStatus(batch.status)) : null));
  })));
}
