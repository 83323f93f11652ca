// A study: whose it is, its series with a picture each, and a package of all of it.

import { Blobs } from "../blobs.js";
import * as dicom from "../dicom.js";
import { counted, dicomDate, personName } from "../format.js";
import { icon } from "../icons.js";
import { bones, button, empty, facts, head, panel, trouble } from "../parts.js";
import { keepAsking } from "../polling.js";
import * as router from "../router.js";
import { modality } from "../words.js";
import { h } from "../vdom.js";

export function studyView(app, uid) {
  const state = { study: null, series: null, error: null, missing: new Set() };
  let signal = null;
  let blobs = null;

  async function read() {
    const [found] = await app.api.dicom("/v1/dicomweb/studies", { StudyInstanceUID: uid, includefield: "all", limit: 1 }, signal);
    state.study = found ? dicom.study(found) : { uid, modalities: [] };
    const series = await app.api.dicom(`${dicom.studyPath(uid)}/series`, {}, signal);
    state.series = series.map(dicom.series).sort((one, other) => (one.number ?? Infinity) - (other.number ?? Infinity));
    state.error = null;
    app.redraw();
    for (const one of state.series) {
      if (!dicom.pictured(one.modality)) {
        state.missing.add(one.uid);
        continue;
      }
      blobs.get(one.uid, () => app.api.blob(`${dicom.seriesPath(uid, one.uid)}/thumbnail`, { accept: "image/jpeg", signal }))
        .catch(() => state.missing.add(one.uid)).finally(() => app.redraw());
    }
    return 0;
  }

  const look = () => keepAsking(read, signal, (error) => { state.error = error; app.redraw(); });

  async function archive() {
    try {
      const made = await app.api.post("/v1/archives", { study_uid: uid, on_missing: "skip" });
      app.archives.add(made.archive_id, made.name);
      router.go(["archives", made.archive_id]);
    } catch (error) {
      app.announcer.show(error.message, { tone: "bad" });
    }
  }

  return {
    title: () => (state.study ? personName(state.study.patient) || "Study" : "Study"),
    start(given) {
      signal = given;
      blobs = new Blobs(signal, 500);
      look();
    },
    render: () => {
      const { study, series } = state;
      const back = { href: "#/dicom", words: "DICOM" };
      if (!study) return [head("Study", null, { back }), trouble(state.error, look), state.error ? null : h("div", { class: "panel" }, bones(5))];
      return [
        head(personName(study.patient) || study.patientId || "Unnamed", [study.description, dicomDate(study.date)].filter(Boolean).join(" · "), { back, actions: [button("Archive", archive, { glyph: "archive" })] }),
        trouble(state.error, look),
        series === null ? h("div", { class: "panel" }, bones(4))
        : series.length === 0 ? empty("dicom", "Nothing is left", "This study has no images any more.")
        : h("ul", { class: "gallery" }, series.map((one) => h("li", { key: one.uid, class: "card" },
          h("a", { class: "card-link", href: router.address(["dicom", "studies", uid, one.uid]) },
            h("span", { class: "card-picture dark" },
              blobs?.have(one.uid) ? h("img", { src: blobs.have(one.uid), alt: "" })
              : h("span", { class: "stand-in" }, icon("dicom"), h("span", {}, state.missing.has(one.uid) ? "No picture" : "…"))),
            h("span", { class: "card-name" }, one.description || `${modality(one.modality)} series ${one.number ?? ""}`.trim())),
          h("p", { class: "card-facts" }, h("span", { class: "badge" }, one.modality), h("span", { class: "num" }, counted(one.instances ?? 0, "image")))))),
        panel("About", {}, h("div", { class: "body" }, facts([
          ["Patient ID", study.patientId],
          ["Born", dicomDate(study.birthDate)],
          ["Sex", study.sex],
          ["Accession", study.accession],
          ["Modalities", study.modalities.map(modality).join(", ")],
          ["Study UID", h("code", {}, uid)],
        ]))),
      ];
    },
  };
}
