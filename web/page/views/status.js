// Figures of the tenant, health of the components, and of a local stack its functions and queues.

import { Unreachable } from "../api.js";
import { ago, bytes, count, speed } from "../format.js";
import { bones, figures, head, notice, panel, status, table, trouble } from "../parts.js";
import { keepAsking } from "../polling.js";
import { sentence } from "../words.js";
import { h } from "../vdom.js";

const REASONS = { waiting: "messages wait in a dead-letter queue", late: "the sweeper is late", not_yet: "has not run yet", timeout: "does not answer in time" };

export function statusView(app) {
  const state = { stats: null, health: null, local: null, error: null };

  async function ask(signal) {
    const { api, config } = app;
    const [stats, health, local] = await Promise.all([
      api.get("/v1/stats", {}, signal),
      // Degraded is a 503 with a body that says why.
      fetch(`${config.api}/v1/health`, { signal }).then((answer) => answer.json(), () => { throw new Unreachable(); }),
      config.local_state_url ? fetch(config.local_state_url, { signal }).then((answer) => (answer.ok ? answer.json() : null)) : null,
    ]);
    Object.assign(state, { stats, health, local, error: null });
    app.redraw();
    return config.local_state_url ? 3 : 20;
  }

  return {
    title: () => "Status",
    start(signal) {
      keepAsking(() => ask(signal), signal, (error) => { state.error = error; app.redraw(); });
    },
    render: () => {
      const { stats, health, local } = state;
      return [
        head("Status", stats?.as_of ? `Counted ${ago(stats.as_of, Date.now())}, once a quarter of an hour.` : "Figures come with the first count, within a quarter of an hour."),
        trouble(state.error),
        stats ? figures([
          ["Files", stats.total], ["Succeeded", stats.succeeded, "good"], ["Failed", stats.failed, stats.failed ? "bad" : ""], ["Stored", bytes(stats.bytes_total)],
          ["Average size", bytes(stats.bytes_average)], ["Average speed", speed(stats.average_bytes_per_s)],
          ["Uploading now", stats.active_uploads], ["Still to come", bytes(stats.active_bytes)], ["Today", stats.uploads_today], ["This week", stats.uploads_week],
        ]) : state.error ? null : h("div", { class: "panel" }, bones(4)),
        health ? panel("Health", { note: status(health.status === "ok" ? { words: "all is well", tone: "good" } : { words: "degraded", tone: "bad" }) },
          h("ul", { class: "checks" }, Object.entries(health.checks ?? {}).map(([name, check]) => h("li", { key: name },
            h("strong", {}, sentence(name)),
            status(check.status === "ok" ? { words: "works", tone: "good" } : { words: "failed", tone: "bad" }),
            check.reason ? h("span", { class: "soft" }, REASONS[check.reason] ?? check.reason) : null)))) : null,
        health && health.status !== "ok" ? notice("warn", "Something does not work as it should. What was sent is kept, and goes on when it works again.") : null,
        local ? [
          panel("Functions", { note: "of this local stack" }, table("Functions", [
            { title: "Function", cell: ([name]) => h("code", {}, name) },
            { title: "Calls", num: true, cell: ([, one]) => count(one.invocations) },
            { title: "Errors", num: true, cell: ([, one]) => count(one.errors) },
            { title: "Last", num: true, cell: ([, one]) => (one.last_ms === null || one.last_ms === undefined ? "–" : `${count(one.last_ms)} ms`) },
            { title: "Peak memory", num: true, cell: ([, one]) => (one.memory_peak_bytes ? bytes(one.memory_peak_bytes) : "–") },
            { title: "Limit", num: true, cell: ([, one]) => `${count(one.memory_mb)} MB` },
          ], Object.entries(local.functions), ([name]) => name)),
          panel("Queues", {}, table("Queues", [
            { title: "Queue", cell: ([name]) => h("code", {}, name) },
            { title: "Waiting", num: true, cell: ([, one]) => count(one.visible) },
            { title: "In hand", num: true, cell: ([, one]) => count(one.in_flight) },
            { title: "Dead letters", num: true, cell: ([, one]) => count(one.dlq) },
          ], Object.entries(local.queues), ([name]) => name)),
        ] : null,
      ];
    },
  };
}
