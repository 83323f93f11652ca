// Line icons on a grid of 24, drawn for this page. Decoration: what they mean stands beside them in words.

import { h } from "./vdom.js";

const PATHS = {
  mark: ["M4 19h16", "M12 15V4", "M7 9l5-5 5 5", "M7 15h10"],
  upload: ["M12 15V4", "M7 9l5-5 5 5", "M4 15v4a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-4"],
  files: ["M4 5h7v7H4z", "M13 5h7v7h-7z", "M4 14h7v6H4z", "M13 14h7v6h-7z"],
  dicom: ["M12 3v18", "M8 6.5c-3 .5-4 3-4 5.500s1 5 4 5.500", "M16 6.500c3 .500 4 3 4 5.500s-1 5-4 5.500", "M9 9.500h6", "M9 12.500h6", "M9 15.500h6"],
  table: ["M4 5h16v14H4z", "M4 10h16", "M4 14.500h16", "M10 10v9"],
  archive: ["M4 4h16v5H4z", "M5.500 9v10.500h13V9", "M10 13h4"],
  pulse: ["M3 12h4l3-7 4 14 3-7h4"],
  folder: ["M3 6.500h6l2 2.500h10v10H3z"],
  file: ["M6 3h8l4 4v14H6z", "M14 3v4h4"],
  pause: ["M9 6v12", "M15 6v12"],
  play: ["M8 5.500v13l10-6.500z"],
  cancel: ["M6 6l12 12", "M18 6L6 18"],
  retry: ["M20 12a8 8 0 1 1-2.500-5.800", "M20 3v4.500h-4.500"],
  download: ["M12 4v11", "M7 10.500l5 5 5-5", "M4 19.500h16"],
  bin: ["M4 7h16", "M9 7V4h6v3", "M6.500 7l1 13h9l1-13"],
  back: ["M15 5l-7 7 7 7"],
  next: ["M9 5l7 7-7 7"],
  warn: ["M12 4L2.500 20h19z", "M12 10v4.500", "M12 17.300v.2"],
  info: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 11v5.500", "M12 7.600v.2"],
  done: ["M5 12.500l4.500 4.500L19 7.500"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2.500v2", "M12 19.500v2", "M2.500 12h2", "M19.500 12h2", "M5.300 5.300l1.400 1.400", "M17.300 17.300l1.400 1.400", "M18.700 5.300l-1.400 1.400", "M6.700 17.300l-1.400 1.400"],
  moon: ["M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z"],
  auto: ["M12 3.500a8.500 8.500 0 1 0 0 17z", "M12 3.500a8.500 8.500 0 0 1 0 17"],
  leave: ["M14 4H5v16h9", "M10 12h10", "M16.500 8.500L20 12l-3.500 3.500"],
  search: ["M11 4.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13z", "M15.800 15.800L20 20"],
  offline: ["M3 3l18 18", "M5 12.500a10 10 0 0 1 4-2.400", "M19 12.500a10 10 0 0 0-5.500-2.800", "M8.500 16a5 5 0 0 1 7 0", "M12 19.500v.2"],
};

export function icon(name) {
  return h("svg", { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": "1.75", "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true", focusable: "false" },
    PATHS[name].map((d) => h("path", { d })));
}
