// Light, dark, or as the system has it.

const KEY = "heavylift.theme";
const THEMES = ["auto", "light", "dark"];

export function chosenTheme() {
  return document.documentElement.dataset.theme ?? "auto";
}

export function nextTheme() {
  apply(THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length]);
}

function apply(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Then it is forgotten with the page.
  }
}

try {
  const kept = localStorage.getItem(KEY);
  if (THEMES.includes(kept)) apply(kept);
} catch {
  // A browser without storage shows what the system says.
}
