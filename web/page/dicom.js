// DICOM JSON (PS3.18 Annex F) as views need it, addresses of DICOMweb, and the arithmetic of windows. Pure.

/** The first value of an attribute by its tag; undefined where there is none. */
export function value(dataset, tag) {
  const found = dataset?.[tag]?.Value?.[0];
  return found !== null && typeof found === "object" ? found.Alphabetic : found;
}

export function number(dataset, tag) {
  const found = Number(value(dataset, tag));
  return Number.isFinite(found) && value(dataset, tag) !== undefined ? found : null;
}

/** A study of QIDO-RS. */
export function study(dataset) {
  return {
    uid: value(dataset, "0020000D"),
    date: value(dataset, "00080020") ?? "",
    time: value(dataset, "00080030") ?? "",
    description: value(dataset, "00081030") ?? "",
    accession: value(dataset, "00080050") ?? "",
    patient: value(dataset, "00100010") ?? "",
    patientId: value(dataset, "00100020") ?? "",
    birthDate: value(dataset, "00100030") ?? "",
    sex: value(dataset, "00100040") ?? "",
    modalities: (dataset?.["00080061"]?.Value ?? []).filter(Boolean),
    series: number(dataset, "00201206"),
    instances: number(dataset, "00201208"),
  };
}

/** A series of QIDO-RS. */
export function series(dataset) {
  return {
    uid: value(dataset, "0020000E"),
    modality: value(dataset, "00080060") ?? "",
    description: value(dataset, "0008103E") ?? "",
    number: number(dataset, "00200011"),
    instances: number(dataset, "00201209"),
    body: value(dataset, "00180015") ?? "",
  };
}

/** An instance of QIDO-RS. */
export function instance(dataset) {
  return {
    uid: value(dataset, "00080018"),
    number: number(dataset, "00200013"),
    frames: number(dataset, "00280008") ?? 1,
    rows: number(dataset, "00280010"),
    columns: number(dataset, "00280011"),
  };
}

/** Instances in the order of their numbers, those without one behind; a frame each: [{"uid","frame","rows","columns"}]. */
export function framesOf(instances) {
  const sorted = [...instances].sort((one, other) => (one.number ?? Infinity) - (other.number ?? Infinity) || (one.uid < other.uid ? -1 : 1));
  return sorted.flatMap((one) => Array.from({ length: Math.max(1, one.frames) }, (_, place) => ({
    uid: one.uid, frame: place + 1, of: one.frames, number: one.number, rows: one.rows, columns: one.columns,
  })));
}

const part = encodeURIComponent;
export const studyPath = (study_uid) => `/v1/dicomweb/studies/${part(study_uid)}`;
export const seriesPath = (study_uid, series_uid) => `${studyPath(study_uid)}/series/${part(series_uid)}`;
export const instancePath = (study_uid, series_uid, uid) => `${seriesPath(study_uid, series_uid)}/instances/${part(uid)}`;

/** The picture of a frame, and its query: a viewport, and a window where one was chosen. */
export function rendered(study_uid, series_uid, frame, { window = null, edge = null } = {}) {
  return {
    path: `${instancePath(study_uid, series_uid, frame.uid)}/frames/${frame.frame}/rendered`,
    query: {
      window: window ? `${tidy(window.center)},${tidy(window.width)},linear` : undefined,
      viewport: edge ? `${edge},${edge}` : undefined,
    },
  };
}

const tidy = (one) => String(Math.round(one * 100) / 100);

/** The window that a file names, or what its stored bits make likely: {"center","width"}; null where there is none. */
export function windowOf(metadata) {
  const center = number(metadata, "00281050");
  const width = number(metadata, "00281051");
  if (center !== null && width !== null && width >= 1) return { center, width };
  if (!String(value(metadata, "00280004") ?? "MONOCHROME2").startsWith("MONOCHROME")) return null;
  const bits = number(metadata, "00280101") ?? 8;
  const slope = number(metadata, "00281053") ?? 1;
  const intercept = number(metadata, "00281052") ?? 0;
  const signed = number(metadata, "00280103") === 1;
  const low = signed ? -(2 ** (bits - 1)) : 0;
  return { center: (low + 2 ** (bits - 1)) * slope + intercept, width: Math.max(1, 2 ** bits * Math.abs(slope)) };
}

/** The window after a drag: to the right wider, downwards brighter, as readers of pictures know it. */
export function dragged(start, dx, dy) {
  const step = Math.max(start.width, 1) / 300;
  return { center: start.center + dy * step, width: Math.max(1, start.width + dx * step) };
}

// Reports, plans and presentations: series in which nothing can be drawn.
const WITHOUT_PICTURES = new Set(["SR", "PR", "KO", "DOC", "REG", "RTPLAN", "RTSTRUCT", "RTRECORD", "AU", "ECG", "HD", "PLAN", "STAIN"]);

export function pictured(modality) {
  return !WITHOUT_PICTURES.has(modality);
}

export const WINDOWS = [
  ["Soft tissue", { center: 40, width: 400 }],
  ["Lung", { center: -600, width: 1500 }],
  ["Bone", { center: 480, width: 2500 }],
  ["Brain", { center: 40, width: 80 }],
];
