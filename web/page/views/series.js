// A simple viewer: the frames of a series, one at a time, with a window that is dragged. Pictures are made by the server
// (WADO-RS rendered), fetched with the token and shown as blobs.

import { Blobs } from "../blobs.js";
import * as dicom from "../dicom.js";
import { count, counted, dimensions } from "../format.js";
import { bones, button, head, trouble } from "../parts.js";
import { keepAsking } from "../polling.js";
import * as router from "../router.js";
import { modality } from "../words.js";
import { h } from "../vdom.js";

const AHEAD = 4;
const PAGE = 500;

export function seriesView(app, studyUid, seriesUid) {
  const state = { series: null, frames: null, at: 0, window: null, own: null, error: null, shown: null, pictureError: null, playing: false };
  let signal = null;
  let blobs = null;
  let drag = null;
  let wish = 0;
  let showing = false;

  async function read() {
    const base = dicom.seriesPath(studyUid, seriesUid);
    const found = await app.api.dicom(`${dicom.studyPath(studyUid)}/series`, { SeriesInstanceUID: seriesUid }, signal);
    state.series = found[0] ? dicom.series(found[0]) : { uid: seriesUid, modality: "", description: "" };
    const instances = [];
    for (;;) {
      const page = await app.api.dicom(`${base}/instances`, { limit: PAGE, offset: instances.length || undefined, includefield: "00280008" }, signal);
      instances.push(...page.map(dicom.instance));
      if (page.length < PAGE) break;
    }
    state.frames = dicom.framesOf(instances);
    state.at = Math.floor(state.frames.length / 2);
    state.error = null;
    app.redraw();
    show();
    return 0;
  }

  const nameOf = (frame, window) => `${frame.uid}/${frame.frame}/${window ? `${window.center},${window.width}` : ""}`;
  const fetchFrame = (frame, window) => blobs.get(nameOf(frame, window), () => {
    const { path, query } = dicom.rendered(studyUid, seriesUid, frame, { window });
    return app.api.blob(path, { query, accept: "image/jpeg", signal });
  });

  /** Shows what is wanted when it is there; the picture before stays until then. One request at a time: the newest wish. */
  async function show() {
    wish += 1;
    if (showing) return;
    showing = true;
    for (let served = 0; served !== wish && !signal.aborted;) {
      served = wish;
      const frame = state.frames[state.at];
      if (!frame) break;
      try {
        state.shown = await fetchFrame(frame, state.window);
        state.pictureError = null;
      } catch (error) {
        state.shown = null;
        state.pictureError = error;
      }
      if (!signal.aborted) app.redraw();
    }
    showing = false;
    if (drag || signal.aborted) return;
    for (const next of state.frames.slice(state.at + 1, state.at + 1 + AHEAD)) fetchFrame(next, state.window).catch(() => {});
  }

  function turn(to) {
    const at = Math.max(0, Math.min(state.frames.length - 1, to));
    if (at === state.at) return;
    state.at = at;
    app.redraw();
    show();
  }

  /** The window that the file itself names, read when it is first needed. */
  async function ownWindow() {
    if (state.own) return state.own;
    const frame = state.frames[state.at];
    const [metadata] = await app.api.dicom(`${dicom.instancePath(studyUid, seriesUid, frame.uid)}/metadata`, {}, signal);
    state.own = dicom.windowOf(metadata) ?? { center: 128, width: 256 };
    return state.own;
  }

  function choose(window) {
    state.window = window && { center: Math.round(window.center * 10) / 10, width: Math.max(1, Math.round(window.width * 10) / 10) };
    app.redraw();
    show();
  }

  async function grab(event) {
    if (event.button !== 0) return;
    const target = event.currentTarget;
    target.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, start: null };
    const mine = drag;
    try {
      mine.start = state.window ?? (await ownWindow());
    } catch {
      if (drag === mine) drag = null;
    }
  }

  function pull(event) {
    if (!drag?.start) return;
    choose(dicom.dragged(drag.start, event.clientX - drag.x, event.clientY - drag.y));
  }

  const release = () => { drag = null; };

  async function nudge(dx, dy) {
    choose(dicom.dragged(state.window ?? (await ownWindow()), dx, dy));
  }

  function keys(event) {
    const act = {
      ArrowRight: () => turn(state.at + 1), ArrowDown: () => turn(state.at + 1), PageDown: () => turn(state.at + 10), End: () => turn(state.frames.length - 1),
      ArrowLeft: () => turn(state.at - 1), ArrowUp: () => turn(state.at - 1), PageUp: () => turn(state.at - 10), Home: () => turn(0),
      "+": () => nudge(0, -12), "-": () => nudge(0, 12), "[": () => nudge(-12, 0), "]": () => nudge(12, 0), 0: () => choose(null),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
  }

  async function play() {
    state.playing = !state.playing;
    app.redraw();
    while (state.playing && !signal.aborted) {
      const started = performance.now();
      const next = (state.at + 1) % state.frames.length;
      await fetchFrame(state.frames[next], state.window).catch(() => { state.playing = false; });
      state.at = next;
      show();
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, 80 - (performance.now() - started))));
    }
  }

  const look = () => keepAsking(read, signal, (error) => { state.error = error; app.redraw(); });

  return {
    title: () => state.series?.description || "Series",
    start(given) {
      signal = given;
      blobs = new Blobs(signal);
      look();
    },
    render: () => {
      const { series, frames } = state;
      const back = { href: router.address(["dicom", "studies", studyUid]), words: "Study" };
      if (!frames) return [head("Series", null, { back }), trouble(state.error, look), state.error ? null : h("div", { class: "panel" }, bones(6))];
      const frame = frames[state.at];
      const shownWindow = state.window ?? state.own;
      return [
        head(series.description || `${modality(series.modality)} series ${series.number ?? ""}`.trim(), [modality(series.modality), counted(frames.length, "picture"), frame && dimensions(frame.columns, frame.rows)].filter(Boolean).join(" · "), { back }),
        h("section", { class: "viewer", "aria-label": "Viewer" },
          h("div", { class: "viewer-stage", tabindex: "0", role: "group", "aria-label": "Picture. Arrow keys turn pages, plus and minus change brightness, brackets contrast, 0 takes the file's own window.",
            onpointerdown: grab, onpointermove: pull, onpointerup: release, onpointercancel: release, onkeydown: keys,
            onwheel: (event) => { event.preventDefault(); turn(state.at + Math.sign(event.deltaY)); } },
            state.shown ? h("img", { src: state.shown, alt: `Picture ${state.at + 1} of ${frames.length}`, draggable: "false" }) : null,
            state.pictureError ? h("p", { class: "viewer-note", role: "alert" }, state.pictureError.message) : state.shown ? null : h("p", { class: "viewer-note" }, "Loading…"),
            h("p", { class: "viewer-corner num", "aria-hidden": "true" }, frame ? `${state.at + 1} / ${frames.length}${frame.of > 1 ? `  frame ${frame.frame}` : frame.number === null ? "" : `  image ${frame.number}`}` : ""),
            state.window ? h("p", { class: "viewer-corner right num", "aria-hidden": "true" }, `C ${state.window.center}  W ${state.window.width}`) : null),
          h("div", { class: "viewer-tools" },
            frames.length > 1 ? h("label", { class: "field slider" }, h("span", {}, `Picture ${count(state.at + 1)} of ${count(frames.length)}`),
              h("input", { type: "range", min: "1", max: frames.length, value: String(state.at + 1), oninput: (event) => turn(Number(event.target.value) - 1) })) : null,
            frames.length > 1 ? button(state.playing ? "Stop" : "Play", play, { glyph: state.playing ? "pause" : "play" }) : null,
            h("label", { class: "field window" }, h("span", {}, "Window"), h("select", {
              value: state.window ? String(dicom.WINDOWS.findIndex(([, one]) => one.center === state.window.center && one.width === state.window.width)) : "own",
              onchange: ({ target }) => choose(target.value === "own" ? null : dicom.WINDOWS[Number(target.value)]?.[1] ?? state.window),
            }, h("option", { value: "own" }, "As the file has it"), dicom.WINDOWS.map(([name], place) => h("option", { value: String(place) }, name)), h("option", { value: "-1", hidden: true }, "By hand"))),
            ["center", "width"].map((name) => h("label", { class: "field window", key: name }, h("span", {}, name === "center" ? "Center" : "Width"),
              h("input", { type: "number", step: "1", value: shownWindow ? String(shownWindow[name]) : "", placeholder: "auto", onchange: async (event) => {
                const number = Number(event.target.value);
                if (event.target.value !== "" && Number.isFinite(number)) choose({ ...(state.window ?? (await ownWindow())), [name]: number });
              } }))))),
        h("p", { class: "soft hint-line" }, "Drag the picture: sideways for contrast, up and down for brightness. The wheel and the arrow keys turn pages."),
      ];
    },
  };
}
