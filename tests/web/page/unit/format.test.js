import assert from "node:assert/strict";
import { test } from "node:test";

import * as format from "../../../../web/page/format.js";

const NOW = Date.parse("2026-11-20T12:00:00Z");

test("bytes have three figures and never say 1000 of a unit", () => {
  const cases = [[0, "0 B"], [999, "999 B"], [1000, "1.00 kB"], [1234567, "1.23 MB"], [12_345_678, "12.3 MB"], [123_456_789, "123 MB"],
    [999_499, "999 kB"], [999_500, "1.00 MB"], [80e9, "80.0 GB"], [5e15, "5.00 PB"], [null, "–"], [undefined, "–"]];
  for (const [given, words] of cases) assert.equal(format.bytes(given), words);
});

test("percent is never 100 before it is, and never more", () => {
  for (const [given, words] of [[0, "0 %"], [0.999, "99 %"], [1, "100 %"], [1.5, "100 %"], [null, "–"], [NaN, "–"]]) assert.equal(format.percent(given), words);
});

test("durations", () => {
  for (const [given, words] of [[0, "0 s"], [59.4, "59 s"], [60, "1 min"], [200, "3 min 20 s"], [7500, "2 h 05 min"], [273_600, "3 d 4 h"], [null, "–"]]) assert.equal(format.duration(given), words);
});

test("the time left goes in steps, larger ones for longer times", () => {
  for (const [given, words] of [[3, "a few seconds left"], [22, "about 20 s left"], [61, "about 1 min left"], [250, "about 4 min left"], [7_900, "about 2 h 10 min left"], [200_000, "about 2 days left"], [null, ""]]) {
    assert.equal(format.timeLeft(given), words);
  }
  const distinct = new Set(Array.from({ length: 60 }, (_, second) => format.timeLeft(600 - second)));
  assert.ok(distinct.size <= 2, "a minute of an estimate of ten shows one or two texts");
});

test("words that change for a moment are not shown, and none stay for ever", () => {
  let now = 0;
  const show = format.steady(() => now);
  const said = [["a", 0], ["b", 100], ["a", 200], ["b", 300], ["b", 1000], ["b", 1800], ["c", 1900], ["", 2000], ["d", 2100]];
  const shown = said.map(([words, at]) => { now = at; return show(words); });
  assert.deepEqual(shown, ["", "", "", "", "", "b", "b", "", ""]);
  const falling = Array.from({ length: 50 }, (_, step) => { now = 10_000 + step * 1000; return show(`about ${50 - step} min`); });
  falling.forEach((words, step) => assert.ok(Number(words.split(" ")[1]) - (50 - step) <= 3 || step < 3, words));
});

test("times near and far", () => {
  const cases = [["2026-11-20T11:59:50Z", "just now"], ["2026-11-20T11:59:00Z", "1 minute ago"], ["2026-11-20T09:00:00Z", "3 hours ago"], ["2026-11-27T12:00:00Z", "in 7 days"],
    ["2026-11-20T12:00:10Z", "in a moment"], ["2025-01-02T00:00:00Z", "2025-01-02"], [null, "–"], ["yesterday", "–"]];
  for (const [given, words] of cases) assert.equal(format.ago(given, NOW), words);
  assert.equal(format.moment("2026-11-20T12:34:56.789Z", "Europe/Berlin"), "2026-11-20 13:34:56");
});

test("counts, DICOM's dates and names, long names", () => {
  assert.equal(format.count(1234567), "1\u202f234\u202f567");
  assert.equal(format.counted(1, "study", "studies"), "1 study");
  assert.equal(format.counted(2, "study", "studies"), "2 studies");
  assert.equal(format.dicomDate("20261120"), "2026-11-20");
  assert.equal(format.dicomDate("2026"), "2026");
  assert.equal(format.personName("Doe^Jane^Q^Dr^III=ドウ"), "Doe, Dr Jane Q III");
  assert.equal(format.personName(undefined), "");
  assert.equal(format.shortened("a".repeat(60) + ".tif", 30).length, 30);
  assert.match(format.shortened("a".repeat(60) + ".tif", 30), /….*\.tif$/);
  assert.equal(format.dimensions(0, 3), "");
});
