// Which key does what: one table, read by the listener, the labels and the help.
//
// Keys are places on the keyboard (`KeyboardEvent.code`), so that a Cyrillic or Greek layout decides like a Latin
// one; what is printed on the place is shown. Everybody may choose other places; this browser keeps the choice.

import { t } from "./texts.js";

const KEPT = "phq-keys"; // {action: [place, ...]}: what differs from the table
const LEARNED = "phq-key-labels"; // {place: letter}: for browsers that do not tell the layout
const QUIET = 1000; // milliseconds without a key until keys decide again after a note could not be opened

/** `action` is a method of the loop; `keys` are places, a modifier first ("shift+KeyF"). */
export const KEYS = [
  { group: "Decide", action: "accept", keys: ["KeyA", "ArrowRight"] },
  { group: "Decide", action: "reject", keys: ["KeyX", "ArrowLeft"] },
  { group: "Decide", action: "skip", keys: ["KeyS", "ArrowDown"] },
  { group: "Decide", action: "flag", keys: ["KeyF", "shift+KeyF"] },
  { group: "Decide", action: "correct", keys: ["KeyC"] },
  { group: "Decide", action: "undo", keys: ["KeyU", "Backspace", "ctrl+KeyZ"] },
  { group: "Look", action: "peek", keys: ["Space"] },
  { group: "Look", action: "toggleOverlay", keys: ["KeyO"] },
  { group: "Look", action: "meshMode", keys: ["KeyL"] },
  { group: "Look", action: "fainter", keys: ["BracketLeft", "Minus"], repeats: true },
  { group: "Look", action: "stronger", keys: ["BracketRight", "Equal"], repeats: true },
  { group: "Look", action: "zoom", keys: ["KeyZ"] },
  { group: "Look", action: "pixels", keys: ["Digit1"] },
  { group: "Look", action: "fit", keys: ["Digit0"] },
  { group: "Look", action: "lookLeft", keys: ["shift+ArrowLeft"], repeats: true },
  { group: "Look", action: "lookRight", keys: ["shift+ArrowRight"], repeats: true },
  { group: "Look", action: "lookUp", keys: ["shift+ArrowUp"], repeats: true },
  { group: "Look", action: "lookDown", keys: ["shift+ArrowDown"], repeats: true },
  { group: "Look", action: "photo", keys: ["KeyP"] },
  { group: "Look", action: "mask", keys: ["KeyM"] },
  { group: "Look", action: "neighbours", keys: ["KeyN"] },
  { group: "Look", action: "evidence", keys: ["KeyE"] },
  { group: "Page", action: "link", keys: ["KeyK"] },
  { group: "Page", action: "openSheet", keys: ["KeyG"] },
  { group: "Page", action: "choose", keys: ["KeyQ"] },
  { group: "Page", action: "help", keys: ["KeyH"], typed: ["?"] },
  { group: "Page", action: "close", keys: ["Escape"], fixed: true },
];

const SIGNS = {
  ArrowRight: "→", ArrowLeft: "←", ArrowUp: "↑", ArrowDown: "↓", Backspace: "⌫", Escape: "Esc", Enter: "⏎", Tab: "⇥",
  BracketLeft: "[", BracketRight: "]", Minus: "-", Equal: "=", Comma: ",", Period: ".", Slash: "/", Semicolon: ";",
  Quote: "'", Backquote: "`", Backslash: "\\",
};
const MODIFIERS = { "ctrl+": "Ctrl ", "shift+": "⇧ " };

let chosen = kept(KEPT);
let layout = new Map(Object.entries(kept(LEARNED)));
let places = placed();
let quietUntil = 0;

navigator.keyboard?.getLayoutMap?.().then((map) => {
  layout = map;
  label();
}, () => {});

/** Calls `loop[action]()` for keys, and `loop.peek(on)` as its key goes down and up. */
export function listenToKeys(loop) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || writing(event.target) || event.altKey || event.isComposing) return;
    learn(event);
    const row = rowOf(event);
    if (!row) return;
    // A dialog keeps its keys to itself, and a button reached by Tab answers to Space and Enter.
    if (document.querySelector("dialog[open]")) return;
    if (["Space", "Enter"].includes(placeOf(event)) && event.target.closest?.("button, a, summary, [role=slider]")) return;
    event.preventDefault();
    if (performance.now() < quietUntil) {
      quietUntil = performance.now() + QUIET;
      return;
    }
    if (row.action === "peek") {
      if (!event.repeat) loop.peek(true);
      return;
    }
    // A key that is held down must not decide a row of portraits.
    if (!event.repeat || row.repeats) loop[row.action](event);
  });
  addEventListener("keyup", (event) => rowOf(event)?.action === "peek" && loop.peek(false));
  addEventListener("blur", () => loop.peek(false));
  label();
}

/** What is typed on is a note that nobody takes: no key decides until there was a pause. */
export function ignoreTyping() {
  quietUntil = performance.now() + QUIET;
}

/** The action that a key event asks for by the choice of this browser, or undefined. */
export function actionOf(event) {
  return rowOf(event)?.action;
}

/** What an action does, in words. */
export function textOf(row) {
  return t(`key.${row.action}`);
}

/** The number of a digit key, of either block, by its place; else null. */
export function digit(event) {
  const found = /^Digit(\d)$/.exec(placeOf(event));
  return found && !event.ctrlKey && !event.metaKey ? Number(found[1]) : null;
}

/** The places of an action. */
export function keysOf(row) {
  return chosen[row.action] ?? row.keys;
}

/** What is printed on them. */
export function labels(row) {
  return [...keysOf(row).map(printed), ...(row.typed ?? [])];
}

/** Give an action the key of an event; whoever had it takes the key that was given up. Returns what to say, or "". */
export function rebind(action, event) {
  const row = KEYS.find((one) => one.action === action);
  const key = chord(event);
  if (key === "Escape" || /^(ctrl\+)?(Tab|Enter|Shift|Control|Alt|Meta|OS|CapsLock|$)/.test(key)) return t("no_key", { key: printed(key) });
  const [first, ...others] = keysOf(row);
  if (key === first) return "";
  const owner = places.get(key);
  if (owner?.fixed) return t("no_key", { key: printed(key) });
  if (owner && owner !== row) chosen[owner.action] = keysOf(owner).map((one) => (one === key ? first : one));
  chosen[action] = [key, ...others.filter((one) => one !== key)];
  keep();
  return owner && owner !== row ? t("key_moved", { first: printed(first), key: printed(key), text: textOf(owner) }) : "";
}

/** Back to the keys of the table. */
export function resetKeys() {
  chosen = {};
  keep();
}

/** Write the keys of today on every element with `data-key="action"`. */
export function label() {
  for (const element of document.querySelectorAll("[data-key]")) {
    const row = KEYS.find((one) => one.action === element.dataset.key);
    if (row) element.textContent = labels(row)[0];
  }
  dispatchEvent(new Event("keys"));
}

function rowOf(event) {
  return KEYS.find((row) => row.typed?.includes(event.key)) ?? places.get(chord(event));
}

/** Place and modifiers, as the table spells them. */
function chord(event) {
  const at = placeOf(event);
  if (event.ctrlKey || event.metaKey) return `ctrl+${at}`;
  return event.shiftKey && /^(Key|Arrow)/.test(at) ? `shift+${at}` : at;
}

/** Where the key lies; keyboards on a screen tell the letter alone. */
export function placeOf({ code, key }) {
  if (code) return code.replace(/^Numpad(\d)$/, "Digit$1").replace("NumpadAdd", "Equal").replace("NumpadSubtract", "Minus");
  if (/^[a-z]$/i.test(key)) return `Key${key.toUpperCase()}`;
  if (/^\d$/.test(key)) return `Digit${key}`;
  return key === " " ? "Space" : (Object.keys(SIGNS).find((name) => SIGNS[name] === key) ?? key);
}

function printed(key) {
  const at = key.replace(/^(ctrl|shift)\+/, "");
  const before = MODIFIERS[key.slice(0, key.length - at.length)] ?? "";
  const letter = layout.get(at);
  // A letter of another script has its Latin neighbour on the same key: that one is named in the texts.
  const known = letter && /^[\x21-\x7eß-ÿ]$/.test(letter) ? letter.toUpperCase() : null;
  return before + (known ?? SIGNS[at] ?? at.replace(/^(Key|Digit)/, ""));
}

/** Browsers without a map of the layout: what a key typed tells what is printed on it. */
function learn(event) {
  if (navigator.keyboard?.getLayoutMap || event.shiftKey || event.ctrlKey || event.metaKey) return;
  if (!/^(Key|Digit|Bracket|Minus|Equal)/.test(event.code) || event.key.length !== 1 || layout.get(event.code) === event.key) return;
  layout.set(event.code, event.key);
  store(LEARNED, Object.fromEntries(layout));
  label();
}

function placed() {
  return new Map(KEYS.flatMap((row) => keysOf(row).map((key) => [key, row])));
}

function keep() {
  store(KEPT, chosen);
  places = placed();
  label();
}

/** What this browser keeps; whatever is no list of places of a known action is left out. */
function kept(name) {
  try {
    const found = Object.entries(JSON.parse(localStorage.getItem(name)) ?? {});
    if (name === LEARNED) return Object.fromEntries(found.filter(([, letter]) => typeof letter === "string"));
    const known = new Set(KEYS.filter((row) => !row.fixed).map((row) => row.action));
    const right = (keys) => Array.isArray(keys) && keys.length > 0 && keys.every((key) => typeof key === "string");
    return Object.fromEntries(found.filter(([action, keys]) => known.has(action) && right(keys)));
  } catch {
    return {};
  }
}

function store(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Switched off or full: the choice holds until the page is closed.
  }
}

/** Is a text field typed in? A field of a closed dialog keeps the focus until the next frame: it is none. */
function writing(element) {
  if (element.closest?.("dialog:not([open])")) return false;
  return Boolean(element.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select"));
}
