// Which key does what: one table, read by the listener and by the help.

/** `action` is a method of the loop; `keys` are `KeyboardEvent.key` values in lower case. */
export const KEYS = [
  { group: "Decide", action: "accept", keys: ["a", "arrowright"], shown: ["A", "→"], text: "Accept, next portrait" },
  { group: "Decide", action: "reject", keys: ["x", "arrowleft"], shown: ["X", "←"], text: "Reject, then a key for the reason" },
  { group: "Decide", action: "skip", keys: ["s", "arrowdown"], shown: ["S", "↓"], text: "Skip; the portrait comes again later" },
  { group: "Decide", action: "flag", keys: ["f"], shown: ["F"], text: "Flag for discussion" },
  { group: "Decide", action: "flagWithNote", keys: ["shift+f"], shown: ["⇧ F"], text: "Flag with a note" },
  { group: "Decide", action: "correct", keys: ["c"], shown: ["C"], text: "Correct the label" },
  { group: "Decide", action: "undo", keys: ["u", "backspace", "ctrl+z"], shown: ["U", "⌫"], text: "Undo, repeatedly" },
  { group: "Look", action: "peek", keys: [" "], shown: ["Space"], text: "Hide the mesh while held" },
  { group: "Look", action: "toggleOverlay", keys: ["o"], shown: ["O"], text: "Mesh on or off" },
  { group: "Look", action: "fainter", keys: ["[", "-"], shown: ["["], text: "Mesh fainter", repeats: true },
  { group: "Look", action: "stronger", keys: ["]", "+", "="], shown: ["]"], text: "Mesh stronger", repeats: true },
  { group: "Look", action: "zoom", keys: ["z"], shown: ["Z"], text: "Zoom to the shoulders (or wheel, double click)" },
  { group: "Look", action: "photo", keys: ["p"], shown: ["P"], text: "Original photo with the crop window" },
  { group: "Look", action: "mask", keys: ["m"], shown: ["M"], text: "Mask of the person" },
  { group: "Look", action: "neighbours", keys: ["n"], shown: ["N"], text: "Photos before and after in the source" },
  { group: "Look", action: "evidence", keys: ["e"], shown: ["E"], text: "Evidence: the measurements of the screening" },
  { group: "Page", action: "choose", keys: ["q"], shown: ["Q"], text: "Choose the queue" },
  { group: "Page", action: "help", keys: ["?", "h"], shown: ["?"], text: "This help" },
  { group: "Page", action: "close", keys: ["escape"], shown: ["Esc"], text: "Close" },
];

const byKey = new Map(KEYS.flatMap((row) => row.keys.map((key) => [key, row])));

/** Calls `loop[action]()` for keys, and `loop.peek(on)` as Space goes down and up. */
export function listenToKeys(loop) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || writing(event.target) || event.altKey || event.isComposing) return;
    const row = byKey.get(name(event));
    if (!row) return;
    // A dialog keeps its keys to itself, and a button reached by Tab answers to Space and Enter.
    if (document.querySelector("dialog[open]")) return;
    if (event.key === " " && event.target.closest?.("button, a, summary, [role=slider]")) return;
    event.preventDefault();
    if (row.action === "peek") {
      if (!event.repeat) loop.peek(true);
      return;
    }
    // A key that is held down must not decide a row of portraits.
    if (!event.repeat || row.repeats) loop[row.action](event);
  });
  addEventListener("keyup", (event) => event.key === " " && loop.peek(false));
  addEventListener("blur", () => loop.peek(false));
}

function name(event) {
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) return `ctrl+${key}`;
  return event.shiftKey && key.length === 1 && key >= "a" && key <= "z" ? `shift+${key}` : key;
}

function writing(element) {
  return Boolean(element.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select"));
}
