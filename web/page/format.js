// Numbers and times as people read them. Pure: no document, no clock of its own.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** 1234567 -> "1.23 MB": decimal units, three figures. */
export function bytes(count) {
  if (count === null || count === undefined || !Number.isFinite(count)) return "–";
  let unit = 0;
  let value = count;
  // 999.5 kB would be shown as 1000 kB.
  while (value >= (unit === 0 ? 1000 : 999.5) && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : figures(value)} ${UNITS[unit]}`;
}

/** Three figures: 1.23, 12.3, 123. */
export function figures(value) {
  return value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0);
}

export function speed(bytesPerSecond) {
  return bytesPerSecond === null || bytesPerSecond === undefined ? "–" : `${bytes(bytesPerSecond)}/s`;
}

/** Whole numbers with thin spaces between groups of thousands, the same in every locale. */
export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/** "1 file", "2 files". */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** 0.4567 -> "45 %". Never 100 before it is. */
export function percent(ratio) {
  if (ratio === null || ratio === undefined || !Number.isFinite(ratio)) return "–";
  return `${Math.min(100, Math.floor(ratio * 100 + 1e-9))} %`;
}

/** Seconds as "45 s", "3 min 20 s", "2 h 05 min", "3 d 4 h". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/**
 * How long it still takes, in steps that grow with it, so that the words stand still while the estimate trembles:
 * "a few seconds", "about 25 s", "about 4 min", "about 2 h 10 min".
 */
export function timeLeft(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 8) return "a few seconds left";
  if (seconds < 55) return `about ${Math.round(seconds / 5) * 5} s left`;
  const minutes = Math.max(1, Math.round(seconds / 60));
  if (minutes < 60) return `about ${minutes} min left`;
  if (minutes < 24 * 60) {
    const rounded = Math.round(minutes / 10) * 10;
    return `about ${duration(rounded * 60)} left`;
  }
  return `about ${counted(Math.round(minutes / 1440), "day")} left`;
}

const HELD_MS = 1_500;

/**
 * What is shown of the time left: words that have held for a while, or whatever is said when those shown are old. The
 * first estimates are guesses, so nothing is shown at first. `now`: milliseconds.
 */
export function steady(now = () => performance.now()) {
  let shown = "";
  let shownAt = null;
  let next = "";
  let since = 0;
  return (words) => {
    if (words !== next) {
      next = words;
      since = now();
    }
    if (words === "") {
      shown = "";
      shownAt = null;
    } else {
      shownAt ??= now();
      if (words !== shown && (now() - since >= HELD_MS || now() - shownAt >= 2 * HELD_MS)) {
        shown = words;
        shownAt = now();
      }
    }
    return shown;
  };
}

/** "just now", "5 minutes ago", "in 3 days": relative within a month, a date beyond. `now`: milliseconds. */
export function ago(iso, now) {
  const at = Date.parse(iso ?? "");
  if (Number.isNaN(at)) return "–";
  const seconds = Math.round((at - now) / 1000);
  const far = Math.abs(seconds);
  if (far < 45) return seconds > 0 ? "in a moment" : "just now";
  const [amount, unit] =
    far < 2700 ? [Math.max(1, Math.round(far / 60)), "minute"]
    : far < 79_200 ? [Math.max(1, Math.round(far / 3600)), "hour"]
    : far < 2_592_000 ? [Math.max(1, Math.round(far / 86_400)), "day"]
    : [0, ""];
  if (!unit) return iso.slice(0, 10);
  const words = counted(amount, unit);
  return seconds > 0 ? `in ${words}` : `${words} ago`;
}

/** "2026-11-20 09:30:15" in the reader's own zone; `zone` is for tests. */
export function moment(iso, zone) {
  const at = new Date(iso ?? "");
  if (Number.isNaN(at.getTime())) return "–";
  const parts = new Intl.DateTimeFormat("en-CA", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23", timeZone: zone,
  }).formatToParts(at);
  const found = Object.fromEntries(parts.map(({ type, value }) => [type, value]));
  return `${found.year}-${found.month}-${found.day} ${found.hour}:${found.minute}:${found.second}`;
}

/** DICOM's 20261120 -> "2026-11-20"; anything else as it is. */
export function dicomDate(text) {
  return /^\d{8}$/.test(text ?? "") ? `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}` : (text ?? "");
}

/** DICOM's person name "DOE^JANE^^DR" -> "Doe, Jane Dr" without shouting: the components, case kept. */
export function personName(text) {
  const [family = "", given = "", middle = "", prefix = "", suffix = ""] = (text ?? "").split("=")[0].split("^");
  const rest = [prefix, given, middle, suffix].filter(Boolean).join(" ");
  return [family, rest].filter(Boolean).join(", ");
}

/** The middle of a long name gives way: its end says what it is. */
export function shortened(name, length = 48) {
  if (name.length <= length) return name;
  const tail = Math.min(16, Math.floor(length / 3));
  return `${name.slice(0, length - tail - 1)}…${name.slice(-tail)}`;
}

/** 1000 -> "1000 × 800"; nothing where nobody knows. */
export function dimensions(width, height) {
  return width && height ? `${count(width)} × ${count(height)}` : "";
}
