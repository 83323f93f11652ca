// States, kinds and verdicts in words, and the tone in which they are shown. Pure.
// Tones: quiet (nothing happens), busy (it works), good, warn (look at it), bad (it failed).

const FILE_STATUS = {
  created: ["announced", "quiet"],
  uploading: ["uploading", "busy"],
  assembling: ["joining parts", "busy"],
  staged: ["arrived", "busy"],
  validating: ["being checked", "busy"],
  scanning: ["being scanned", "busy"],
  promoting: ["being stored", "busy"],
  fresh: ["stored", "busy"],
  processing: ["being processed", "busy"],
  completed: ["ready", "good"],
  completed_with_errors: ["stored, with a defect", "warn"],
  rejected: ["rejected", "bad"],
  failed: ["failed", "bad"],
  cancelled: ["cancelled", "quiet"],
  expired: ["expired", "quiet"],
  deleted: ["deleted", "quiet"],
  duplicate: ["duplicate", "quiet"],
  skipped: ["skipped", "quiet"],
  expanded: ["unpacked", "quiet"],
};

const BATCH_STATUS = {
  open: ["receiving", "busy"],
  processing: ["in work", "busy"],
  completed: ["completed", "good"],
  completed_with_errors: ["completed, with errors", "warn"],
  cancelled: ["cancelled", "quiet"],
  expired: ["expired", "quiet"],
};

const ARCHIVE_STATUS = {
  queued: ["waiting", "busy"],
  building: ["being built", "busy"],
  completed: ["ready", "good"],
  failed: ["failed", "bad"],
  cancelled: ["cancelled", "quiet"],
  expired: ["expired", "quiet"],
};

// The upload engine's own states.
const UPLOAD_STATE = {
  queued: ["waiting", "quiet"],
  preparing: ["reading", "busy"],
  uploading: ["uploading", "busy"],
  paused: ["paused", "quiet"],
  assembling: ["joining parts", "busy"],
  processing: ["being checked", "busy"],
  done: ["done", "good"],
  failed: ["failed", "bad"],
  cancelled: ["cancelled", "quiet"],
};

function look(table, status) {
  const [words, tone] = table[status] ?? [String(status ?? "unknown").replaceAll("_", " "), "quiet"];
  return { words, tone };
}

export const fileStatus = (status) => look(FILE_STATUS, status);
export const batchStatus = (status) => look(BATCH_STATUS, status);
export const archiveStatus = (status) => look(ARCHIVE_STATUS, status);
export const uploadState = (state) => look(UPLOAD_STATE, state);

// Until the store's event has come the record says less than this page knows.
const BEFORE_CHECK = new Set(["created", "uploading", "assembling", "staged"]);

/** How an upload's row reads: the server's verdict where there is one, else the engine's state. */
export function uploadWords(state, record) {
  const status = record?.verdict ?? record?.status;
  const known = status in FILE_STATUS && !BEFORE_CHECK.has(status);
  return known && ["done", "processing", "failed"].includes(state) ? fileStatus(status) : uploadState(state);
}

export const KINDS = [
  ["image", "Images"],
  ["raw", "Camera RAW"],
  ["dicom", "DICOM"],
  ["table", "Tables"],
  ["json", "JSON"],
  ["text", "Text"],
  ["archive", "Archives"],
  ["other", "Other"],
];

const KIND_WORDS = { image: "Image", raw: "Camera RAW", dicom: "DICOM", table: "Table", json: "JSON", text: "Text", archive: "Archive", other: "Other" };

export function kindWords(kind) {
  return KIND_WORDS[kind] ?? sentence(kind);
}

/** What a list can be narrowed to; `failed` holds rejected files, too, as the API has it. */
export const STATUS_FILTERS = [
  ["completed", "Ready"],
  ["completed_with_errors", "With a defect"],
  ["failed", "Failed or rejected"],
  ["uploading", "Uploading"],
  ["processing", "In work"],
];

/** The badge of a file: "DNG RAW", "NEF RAW", "TIFF", "CSV", …; empty where nobody knows yet. */
export function badge(file) {
  const format = !file.format || file.format === "Unknown" ? "" : file.format;
  if (file.kind === "raw") return format && format !== "RAW" ? `${format} RAW` : "RAW";
  return format || (file.kind && file.kind !== "other" ? file.kind.toUpperCase() : "");
}

/** What stands under a picture that is not the file itself; empty where there is nothing to say. */
export function previewNote(file) {
  const picture = file.thumbnails?.[0] ?? file.thumbnail;
  if (!picture) return "";
  if (picture.placeholder) return "No preview could be made of this file. A placeholder is shown; the original is stored as it came.";
  if (picture.provisional) return "A first preview, made before the whole file was there.";
  if (file.kind === "raw") return "This preview was generated from the RAW file. The original is stored untouched.";
  return "";
}

/** A failure as one sentence for people: the server's own words, and what can be done. */
export function failureWords(failure) {
  if (!failure) return "";
  const said = failure.message || String(failure.code ?? "It failed.").replaceAll("_", " ");
  return /[.!?]$/.test(said) ? said : `${said}.`;
}

const EVENTS = {
  open: "Upload opened",
  assemble: "All parts proven, joining",
  parts_missing: "Parts were missing",
  arrive: "All bytes arrived",
  validate: "Check began",
  scan: "Handed to the malware scanner",
  promote: "Accepted, being stored",
  store: "Stored",
  process: "Processing began",
  finish: "Finished",
  finish_with_errors: "Finished, with a defect",
  reject: "Rejected",
  resolve: "Settled without bytes of its own",
  fail: "Failed",
  retry_assembly: "Joining tried again",
  retry_validation: "Check tried again",
  retry_processing: "Processing tried again",
  cancel: "Cancelled",
  expire: "Expired",
  delete: "Deleted",
  initiate: "Announced",
};

export function eventWords(event) {
  return EVENTS[event] ?? sentence(event);
}

/** "keep_first" -> "Keep first". */
export function sentence(code) {
  const text = String(code ?? "").replaceAll("_", " ").replaceAll("-", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const MODALITIES = {
  CR: "Radiograph", CT: "CT", DX: "Radiograph", ES: "Endoscopy", MG: "Mammography", MR: "MRI", NM: "Nuclear medicine",
  OT: "Other", PT: "PET", RF: "Fluoroscopy", RTDOSE: "Dose", RTPLAN: "Plan", RTSTRUCT: "Structures", SC: "Secondary capture",
  SEG: "Segmentation", SM: "Slide microscopy", SR: "Report", US: "Ultrasound", XA: "Angiography", XC: "Photography",
};

export function modality(code) {
  return MODALITIES[code] ?? code ?? "";
}

/** What became of a batch in one line of figures, the largest first; zeros are left out. */
export function batchFigures(batch) {
  return [
    ["succeeded", batch.succeeded, "good"],
    ["duplicates", batch.duplicates, "quiet"],
    ["skipped", batch.skipped, "quiet"],
    ["failed", batch.failed, "bad"],
  ].filter(([, number]) => number > 0);
}
