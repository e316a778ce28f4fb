// What moves the rig: one table of keys (by place: `KeyboardEvent.code`), and gestures of mouse and fingers.

import { t } from "./texts.js";

const RADIAN = Math.PI / 180;
const HOLD_GAP = 700; // milliseconds: presses of one key that are nearer make one step of the undo
const DRAG = 0.35 * RADIAN; // a pixel
const COARSE = { yaw: 4 * RADIAN, pitch: 4 * RADIAN, roll: 2 * RADIAN, across: 0.02, down: 0.02, scale: 0.04 };
const FINE = 0.25; // of a coarse step, with Shift

/** `move` names an amount of COARSE and its sign; `action` is a method of the correction. */
export const CORRECT_KEYS = [
  { group: "Turn", codes: ["ArrowLeft"], shown: ["←"], move: ["yaw", 1] },
  { group: "Turn", codes: ["ArrowRight"], shown: ["→"], move: ["yaw", -1] },
  { group: "Turn", codes: ["ArrowUp"], shown: ["↑"], move: ["pitch", -1] },
  { group: "Turn", codes: ["ArrowDown"], shown: ["↓"], move: ["pitch", 1] },
  { group: "Turn", codes: ["KeyQ"], shown: ["Q"], move: ["roll", -1] },
  { group: "Turn", codes: ["KeyE"], shown: ["E"], move: ["roll", 1] },
  { group: "Move", codes: ["KeyA"], shown: ["A"], move: ["across", -1] },
  { group: "Move", codes: ["KeyD"], shown: ["D"], move: ["across", 1] },
  { group: "Move", codes: ["KeyW"], shown: ["W"], move: ["down", -1] },
  { group: "Move", codes: ["KeyS"], shown: ["S"], move: ["down", 1] },
  { group: "Move", codes: ["Equal", "NumpadAdd"], shown: ["+"], move: ["scale", 1] },
  { group: "Move", codes: ["Minus", "NumpadSubtract"], shown: ["−"], move: ["scale", -1] },
  { group: "Part", codes: ["KeyB"], shown: ["B"], action: "part", given: "body" },
  { group: "Part", codes: ["KeyN"], shown: ["N"], action: "part", given: "neck" },
  { group: "Part", codes: ["KeyH"], shown: ["H"], action: "part", given: "head" },
  { group: "Jump", codes: ["KeyG"], shown: ["G"], action: "snap" },
  { group: "Jump", codes: ["KeyF"], shown: ["F"], action: "flip" },
  { group: "Jump", codes: ["KeyT"], shown: ["T"], action: "around" },
  ...[1, 2, 3, 4, 5, 6].map((number) => ({
    group: "Jump", codes: [`Digit${number}`, `Numpad${number}`], shown: [String(number)],
    action: "hypothesis", given: number - 1,
  })),
  { group: "Look", codes: ["Space"], shown: ["Space"], action: "bare", held: true },
  { group: "Look", codes: ["KeyV"], shown: ["V"], action: "before", held: true },
  { group: "Look", codes: ["KeyO"], shown: ["O"], action: "mode" },
  { group: "Look", codes: ["BracketLeft"], shown: ["["], action: "fainter", repeats: true },
  { group: "Look", codes: ["BracketRight"], shown: ["]"], action: "stronger", repeats: true },
  { group: "Look", codes: ["KeyM"], shown: ["M"], action: "mask" },
  { group: "Look", codes: ["KeyK"], shown: ["K"], action: "points" },
  { group: "End", codes: ["KeyU", "Backspace", "ctrl+KeyZ"], shown: ["U"], action: "undo", repeats: true },
  { group: "End", codes: ["KeyY", "ctrl+KeyY", "ctrl+shift+KeyZ"], shown: ["Y"], action: "redo", repeats: true },
  { group: "End", codes: ["KeyR"], shown: ["R"], action: "reset" },
  { group: "End", codes: ["Escape", "KeyC"], shown: ["Esc"], action: "leave" },
  { group: "End", codes: ["Enter", "NumpadEnter"], shown: ["Enter"], action: "save" },
];

const keyOf = ({ move, action, given }) => move ? move[0] + (move[1] > 0 ? "+" : "-") : action === "part" ? `part_${given}` : action;

/** What a row does, in words. */
export function textOf(row) {
  return t(`correct.key.${keyOf(row)}`, { number: row.given + 1 });
}

/** The same on its button. */
export function labelOf(row) {
  return t(`correct.key.${keyOf(row)}.short`, { number: row.given + 1 });
}

const byCode = new Map(CORRECT_KEYS.flatMap((row) => row.codes.map((code) => [code, row])));

/** The amount of a step: {yaw: radians}, {across: window widths}, {scale: factor} ... */
export function stepOf([name, sign], fine) {
  const amount = sign * COARSE[name] * (fine ? FINE : 1);
  return { [name]: name === "scale" ? Math.exp(amount) : amount };
}

/** Keys go to the correction alone while it is open. Ends when `signal` is aborted. */
export function listenToCorrectKeys(correction, signal) {
  let last = { code: "", time: 0 };
  addEventListener(
    "keydown",
    (event) => {
      event.stopImmediatePropagation(); // what is a decision in the loop is none here
      const control = event.ctrlKey || event.metaKey;
      const name = `${control ? "ctrl+" : ""}${control && event.shiftKey ? "shift+" : ""}${event.code}`;
      const row = byCode.get(name);
      if (!row || event.altKey || event.isComposing) return;
      const pressed = event.target.closest?.("button, a, input") && ["Enter", "Space"].includes(event.code);
      const slides = event.target.matches?.("input[type=range]") && event.code.startsWith("Arrow");
      if (pressed || slides) return; // a button reached by Tab answers to Space and Enter
      event.preventDefault();
      if (row.move) {
        const goesOn = last.code === row.codes[0] && event.timeStamp - last.time < HOLD_GAP;
        last = { code: row.codes[0], time: event.timeStamp };
        correction.move(stepOf(row.move, event.shiftKey), goesOn);
        return;
      }
      last = { code: "", time: 0 };
      if (row.held) {
        if (!event.repeat) correction[row.action](true);
      } else if (!event.repeat || row.repeats) correction[row.action](row.given);
    },
    { capture: true, signal },
  );
  addEventListener(
    "keyup",
    (event) => {
      const row = byCode.get(event.code);
      if (row?.held) correction[row.action](false);
    },
    { capture: true, signal },
  );
  const release = () => CORRECT_KEYS.filter((row) => row.held).forEach((row) => correction[row.action](false));
  addEventListener("blur", release, { signal });
}

/** Drag: yaw and pitch; with Shift or the right button: shift; with Alt: roll. Wheel: scale. Two fingers: all three. */
export function listenToGestures(element, correction, signal) {
  const pointers = new Map();
  const on = (name, listener, options = {}) => element.addEventListener(name, listener, { signal, ...options });
  const spread = () => {
    const [a, b] = pointers.values();
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, size: Math.max(20, Math.hypot(a.x - b.x, a.y - b.y)), angle: Math.atan2(b.y - a.y, b.x - a.x) };
  };
  let started = false; // a gesture is one step of the undo
  const move = (amount) => {
    correction.move(amount, started);
    started = true;
  };
  on("pointerdown", (event) => {
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, button: event.button });
    element.setPointerCapture(event.pointerId);
    if (pointers.size === 1) started = false;
    event.preventDefault();
    element.focus({ preventScroll: true });
  });
  on("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
    const now = { ...before, x: event.clientX, y: event.clientY };
    if (pointers.size === 2) {
      const old = spread();
      pointers.set(event.pointerId, now);
      const next = spread();
      const turn = next.angle - old.angle;
      const width = element.clientWidth;
      move({
        across: (next.x - old.x) / width, down: (next.y - old.y) / width, scale: next.size / old.size,
        roll: Math.atan2(Math.sin(turn), Math.cos(turn)),
      });
      return;
    }
    pointers.set(event.pointerId, now);
    if (!dx && !dy) return;
    if (event.altKey) move({ roll: DRAG * dx });
    else if (event.shiftKey || before.button === 2) move({ across: dx / element.clientWidth, down: dy / element.clientWidth });
    else move({ yaw: -DRAG * dx, pitch: DRAG * dy });
  });
  for (const name of ["pointerup", "pointercancel"]) on(name, (event) => pointers.delete(event.pointerId));
  on("contextmenu", (event) => event.preventDefault());
  let wheeled = 0;
  on(
    "wheel",
    (event) => {
      event.preventDefault();
      correction.move({ scale: Math.exp(-event.deltaY / (event.shiftKey ? 4000 : 1000)) }, event.timeStamp - wheeled < HOLD_GAP);
      wheeled = event.timeStamp;
    },
    { passive: false },
  );
}
