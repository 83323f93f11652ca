import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as words from "../../../../web/page/words.js";

const openapi = JSON.parse(readFileSync(new URL("../../../../docs/openapi.json", import.meta.url)));
const statuses = (schema) => openapi.components.schemas[schema].properties.status.enum;
const plain = (status) => status.replaceAll("_", " ");

test("every state of the API has words and a tone", () => {
  for (const status of statuses("File")) assert.notEqual(words.fileStatus(status).words, "", status);
  for (const [schema, look] of [["File", words.fileStatus], ["Batch", words.batchStatus], ["Archive", words.archiveStatus]]) {
    for (const status of statuses(schema)) {
      const found = look(status);
      assert.ok(["quiet", "busy", "good", "warn", "bad"].includes(found.tone), status);
      // What is not in the table is shown as it is called; only these may be.
      if (found.words === plain(status)) assert.ok(["uploading", "completed", "rejected", "failed", "cancelled", "expired", "deleted"].includes(status), status);
    }
  }
  assert.equal(words.fileStatus("of_another_day").words, "of another day");
});

test("every kind of the API can be asked for", () => {
  const kinds = openapi.components.schemas.File.properties.kind.enum;
  assert.deepEqual(words.KINDS.map(([kind]) => kind).sort(), [...kinds].sort());
  for (const [status] of words.STATUS_FILTERS) assert.ok(statuses("File").includes(status));
});

test("a RAW has its badge, and says that its preview was made", () => {
  assert.equal(words.badge({ kind: "raw", format: "DNG" }), "DNG RAW");
  assert.equal(words.badge({ kind: "raw" }), "RAW");
  assert.equal(words.badge({ kind: "other", format: "Unknown" }), "");
  assert.equal(words.badge({ kind: "table", format: "CSV" }), "CSV");
  assert.match(words.previewNote({ kind: "raw", thumbnails: [{}] }), /generated from the RAW/);
  assert.match(words.previewNote({ kind: "raw", thumbnails: [{ placeholder: true }] }), /placeholder/);
  assert.equal(words.previewNote({ kind: "image", thumbnails: [{}] }), "");
  assert.equal(words.previewNote({ kind: "raw", thumbnails: [] }), "");
});

test("an upload's row says what the server says, once it says more than the engine", () => {
  assert.equal(words.uploadWords("processing", { status: "created" }).words, "being checked");
  assert.equal(words.uploadWords("processing", { status: "promoting" }).words, "being stored");
  assert.equal(words.uploadWords("done", { status: "completed_with_errors" }).tone, "warn");
  assert.equal(words.uploadWords("failed", { status: "rejected" }).words, "rejected");
  assert.equal(words.uploadWords("failed", null).words, "failed");
  assert.equal(words.uploadWords("uploading", { status: "completed" }).words, "uploading");
});

test("failures are whole sentences", () => {
  assert.equal(words.failureWords({ code: "too_odd" }), "too odd.");
  assert.equal(words.failureWords({ message: "It ends early." }), "It ends early.");
  assert.equal(words.failureWords(null), "");
});

test("figures of a batch leave zeros out", () => {
  assert.deepEqual(words.batchFigures({ succeeded: 3, duplicates: 0, skipped: 0, failed: 1 }), [["succeeded", 3, "good"], ["failed", 1, "bad"]]);
});
