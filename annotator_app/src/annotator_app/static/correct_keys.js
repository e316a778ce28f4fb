// What moves the rig: one table of keys (by place: `KeyboardEvent.code`), and gestures of mouse and fingers.

const RADIAN = Math.PI / 180;
const HOLD_GAP = 700; // milliseconds: presses of one key that are nearer make one step of the undo
const DRAG = 0.35 * RADIAN; // a pixel
const COARSE = { yaw: 4 * RADIAN, pitch: 4 * RADIAN, roll: 2 * RADIAN, across: 0.02, down: 0.02, scale: 0.04 };
const FINE = 0.25; // of a coarse step, with Shift

/** `move` names an amount of COARSE and its sign; `action` is a method of the correction. */
export const CORRECT_KEYS = [
  { group: "Turn", codes: ["ArrowLeft"], shown: ["←"], text: "Yaw: turn to the left of the image", move: ["yaw", 1], label: "Yaw left" },
  { group: "Turn", codes: ["ArrowRight"], shown: ["→"], text: "Yaw: turn to the right of the image", move: ["yaw", -1], label: "Yaw right" },
  { group: "Turn", codes: ["ArrowUp"], shown: ["↑"], text: "Pitch: lean back", move: ["pitch", -1], label: "Lean back" },
  { group: "Turn", codes: ["ArrowDown"], shown: ["↓"], text: "Pitch: lean towards the camera", move: ["pitch", 1], label: "Lean forward" },
  { group: "Turn", codes: ["KeyQ"], shown: ["Q"], text: "Roll to the left", move: ["roll", -1], label: "Roll left" },
  { group: "Turn", codes: ["KeyE"], shown: ["E"], text: "Roll to the right", move: ["roll", 1], label: "Roll right" },
  { group: "Move", codes: ["KeyA"], shown: ["A"], text: "Shift to the left", move: ["across", -1], label: "Shift left" },
  { group: "Move", codes: ["KeyD"], shown: ["D"], text: "Shift to the right", move: ["across", 1], label: "Shift right" },
  { group: "Move", codes: ["KeyW"], shown: ["W"], text: "Shift up", move: ["down", -1], label: "Shift up" },
  { group: "Move", codes: ["KeyS"], shown: ["S"], text: "Shift down", move: ["down", 1], label: "Shift down" },
  { group: "Move", codes: ["Equal", "NumpadAdd"], shown: ["+"], text: "Larger", move: ["scale", 1], label: "Larger" },
  { group: "Move", codes: ["Minus", "NumpadSubtract"], shown: ["−"], text: "Smaller", move: ["scale", -1], label: "Smaller" },
  { group: "Part", codes: ["KeyB"], shown: ["B"], text: "The turning keys turn the body", action: "part", given: "body", label: "Body" },
  { group: "Part", codes: ["KeyN"], shown: ["N"], text: "… bend the neck", action: "part", given: "neck", label: "Neck" },
  { group: "Part", codes: ["KeyH"], shown: ["H"], text: "… bend the head", action: "part", given: "head", label: "Head" },
  { group: "Jump", codes: ["KeyG"], shown: ["G"], text: "Snap: fit again from here", action: "snap", label: "Snap" },
  { group: "Jump", codes: ["KeyF"], shown: ["F"], text: "Flip: facing left instead of right", action: "flip", label: "Flip" },
  { group: "Jump", codes: ["KeyT"], shown: ["T"], text: "Turn around: back instead of front", action: "around", label: "Turn around" },
  ...[1, 2, 3, 4, 5, 6].map((number) => ({
    group: "Jump", codes: [`Digit${number}`, `Numpad${number}`], shown: [String(number)], text: `Hypothesis ${number} of the fit`,
    action: "hypothesis", given: number - 1, label: String(number),
  })),
  { group: "Look", codes: ["Space"], shown: ["Space"], text: "Hide the rig while held", action: "bare", held: true, label: "Hide" },
  { group: "Look", codes: ["KeyV"], shown: ["V"], text: "The old label while held", action: "before", held: true, label: "Before" },
  { group: "Look", codes: ["KeyO"], shown: ["O"], text: "Fill, outline or wire", action: "mode", label: "Fill" },
  { group: "Look", codes: ["BracketLeft"], shown: ["["], text: "Fainter", action: "fainter", repeats: true, label: "Fainter" },
  { group: "Look", codes: ["BracketRight"], shown: ["]"], text: "Stronger", action: "stronger", repeats: true, label: "Stronger" },
  { group: "Look", codes: ["KeyM"], shown: ["M"], text: "Mask of the person", action: "mask", label: "Mask" },
  { group: "Look", codes: ["KeyK"], shown: ["K"], text: "Detected points, and those of the rig", action: "points", label: "Points" },
  { group: "End", codes: ["KeyU", "Backspace", "ctrl+KeyZ"], shown: ["U"], text: "Undo", action: "undo", repeats: true, label: "Undo" },
  { group: "End", codes: ["KeyY", "ctrl+KeyY", "ctrl+shift+KeyZ"], shown: ["Y"], text: "Redo", action: "redo", repeats: true, label: "Redo" },
  { group: "End", codes: ["KeyR"], shown: ["R"], text: "Reset to the old label", action: "reset", label: "Reset" },
  { group: "End", codes: ["Escape", "KeyC"], shown: ["Esc"], text: "Leave; what was moved is kept as a draft", action: "leave", label: "Leave" },
  { group: "End", codes: ["Enter", "NumpadEnter"], shown: ["Enter"], text: "Save", action: "save", label: "Save" },
];

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
