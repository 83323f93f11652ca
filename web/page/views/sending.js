// The way in: dropping, choosing files, choosing a folder.

import { h } from "../vdom.js";
import { icon } from "../icons.js";
import { button } from "../parts.js";

/** What a form says about files, as the API wants it; empty fields are left out. */
export function declared(form) {
  const options = {};
  for (const name of ["kind", "data_type", "description", "facility"]) if (form[name]?.trim()) options[name] = form[name].trim();
  if (form.logical_id?.trim()) options.metadata = { logical_id: form.logical_id.trim() };
  if (form.rules?.trim()) {
    try {
      options.rules = JSON.parse(form.rules);
    } catch {
      throw new SyntaxError("The rules are no JSON: mend them, or leave them out.");
    }
  }
  return options;
}

/**
 * A surface that takes drops, with buttons for those who do not drop. `add(what, options)`. `folder`: a folder is what
 * is wanted. The two inputs are real ones, only unseen: the buttons click them.
 */
export function dropZone(app, add, { title = "Drop files or folders here", words = "Any size, any number. Nothing is held in memory.", options = {}, folder = false, id = "drop" } = {}) {
  const over = (event, inside) => {
    event.preventDefault();
    event.currentTarget.classList.toggle("over", inside);
  };
  const chosen = (event) => {
    const files = [...event.target.files];
    event.target.value = ""; // or the same file could not be chosen twice
    if (files.length) add(files, options);
  };
  // Where the browser gives handles, an upload can go on after a reload without choosing the file again.
  const pick = async (name, fallback) => {
    if (!globalThis[name]) {
      document.getElementById(fallback).click();
      return;
    }
    try {
      const found = name === "showOpenFilePicker" ? await showOpenFilePicker({ multiple: true }) : [await showDirectoryPicker()];
      add(found, options);
    } catch (error) {
      if (error.name !== "AbortError") document.getElementById(fallback).click();
    }
  };
  return h("section", {
    class: "drop", id, key: id, "aria-label": "Add files",
    ondragenter: (event) => over(event, true),
    ondragover: (event) => over(event, true),
    ondragleave: (event) => { if (!event.currentTarget.contains(event.relatedTarget)) over(event, false); },
    ondrop: (event) => { over(event, false); event.stopPropagation(); add(event.dataTransfer, options); },
  },
    h("span", { class: "drop-icon" }, icon(folder ? "folder" : "upload")),
    h("div", { class: "drop-words" }, h("h2", {}, title), h("p", {}, words)),
    h("div", { class: "actions" },
      folder ? null : button("Choose files", () => pick("showOpenFilePicker", `${id}-files`), { look: "primary", glyph: "file" }),
      button("Choose a folder", () => pick("showDirectoryPicker", `${id}-folder`), { look: folder ? "primary" : "", glyph: "folder" })),
    h("input", { type: "file", multiple: true, id: `${id}-files`, class: "unseen", tabindex: "-1", "aria-label": "Files", onchange: chosen }),
    h("input", { type: "file", webkitdirectory: true, id: `${id}-folder`, class: "unseen", tabindex: "-1", "aria-label": "Folder", onchange: chosen }));
}
