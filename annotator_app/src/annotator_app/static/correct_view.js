// What the correction looks like: the picture with the rig over it, views from elsewhere, numbers, buttons.

import { CORRECT_KEYS, labelOf, textOf } from "./correct_keys.js";
import { MODES, RigPainter } from "./rig_gl.js";
import { angles, difference, projected, sideViews } from "./rig_label.js";
import { t } from "./texts.js";

const VIEWS = ["front", "above", "left"];

const SETTLED = 200; // milliseconds: the small views follow when the rig rests that long
const SLOW = 40; // milliseconds from a frame to the next that are long
const LATE = 4; // such frames in a row, from which on a moving rig is drawn half as sharp
const INSET = 128; // pixels
const COCO = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"];
const SEEN = 0.3; // detected points with a lower score are not shown

/** Builds itself into `root`; `act(action, given)` and `step(move, fine)` are called by its buttons. */
export class CorrectView {
  #buttons = new Map(); // row of the table -> button
  #values = []; // elements of the numbers: value and change, in turn
  #shown = ""; // what the buttons say
  #wanted = 0;
  #settle = null;
  #late = 0; // frames one after the other that took long
  #slow = false; // mostly a browser without a GPU

  constructor(root, { act, step }) {
    this.root = root;
    this.picture = make("div", { className: "correct-picture", tabIndex: 0, role: "application", ariaLabel: t("correct.picture") });
    this.images = make("div", { className: "correct-images" });
    this.mask = make("img", { className: "correct-mask", alt: "", draggable: false, hidden: true });
    this.canvas = make("canvas", { className: "correct-rig" });
    this.dots = make("canvas", { className: "correct-dots", hidden: true });
    this.sign = make("span", { className: "view-name" });
    this.plane = make("div", { className: "correct-plane" }, [this.images, this.mask, this.canvas, this.dots, this.sign]);
    this.picture.append(this.plane);
    this.insets = make("canvas", { className: "correct-insets", width: 3 * INSET, height: INSET });
    this.numbers = make("dl", { className: "correct-numbers" }, this.#makeNumbers());
    this.note = make("p", { className: "correct-note", role: "status" });
    this.takeBack = make("button", { type: "button", className: "quiet", textContent: t("correct.take_back"), hidden: true });
    this.takeBack.addEventListener("click", () => act("takeBack"));
    root.append(this.picture, this.#side(act, step));
    root.setAttribute("aria-label", t("correct.name"));
    this.painter = new RigPainter(this.canvas);
    this.small = new RigPainter(this.insets, { kept: true });
    this.frames = 0; // drawn since the page opened
    this.mode = "outline";
    this.opacity = 0.6;
    this.state = null;
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  setRig(rig) {
    this.rig = rig;
    this.painter.setRig(rig);
    this.small.setRig(rig);
  }

  /** The picture of an item. `crop`: an image that is here already, or null. */
  show(item, crop) {
    const [x, y, side] = item.window;
    const layer = (source, [left, top, right, bottom]) => {
      const image = make("img", { alt: "", draggable: false, src: source });
      Object.assign(image.style, {
        left: `${(100 * (left - x)) / side}%`, top: `${(100 * (top - y)) / side}%`,
        width: `${(100 * (right - left)) / side}%`, height: `${(100 * (bottom - top)) / side}%`,
      });
      image.addEventListener("error", () => image.remove()); // the portrait's own pixels stay
      return image;
    };
    const { original, photo } = item.images;
    const [width, height] = [item.photo_width, item.photo_height];
    const whole = [Math.max(0, Math.floor(x)), Math.max(0, Math.floor(y)), Math.min(width, Math.ceil(x + side)), Math.min(height, Math.ceil(y + side))];
    this.images.replaceChildren(
      layer(crop?.src || item.images.crop, [x, y, x + side, y + side]),
      original ? layer(original, whole) : layer(photo, [0, 0, width, height]),
    );
    this.mask.src = item.images.mask;
  }

  /** What is shown: {label, old, region, keypoints, part, bare, before, mask, points, undo, redo, own, hypotheses}. */
  set(state) {
    this.state = state;
    this.draw();
  }

  say(text) {
    this.note.textContent = text;
  }

  setMode(mode) {
    this.mode = mode;
    this.draw();
  }

  nextMode() {
    this.setMode(MODES[(MODES.indexOf(this.mode) + 1) % MODES.length]);
  }

  setOpacity(value) {
    this.opacity = Math.min(1, Math.max(0.1, Math.round(value * 20) / 20));
    this.draw();
  }

  /** Draw in the next frame, however often it is asked for until then. */
  draw() {
    if (this.#wanted || !this.state) return;
    this.#wanted = requestAnimationFrame(() => {
      this.#wanted = 0;
      if (this.state && !this.root.hidden) this.#drawNow();
    });
  }

  #drawNow() {
    const began = performance.now();
    this.#paint(this.#slow ? 0.5 : 1);
    this.frames += 1;
    requestAnimationFrame(() => {
      this.#late = performance.now() - began > SLOW ? this.#late + 1 : 0;
      this.#slow ||= this.#late >= LATE;
    });
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => {
      if (!this.state || this.root.hidden) return;
      if (this.#slow) this.#paint(1);
      this.#drawInsets(this.state.before ? this.state.old : this.state.label);
    }, SETTLED);
  }

  /** Draw the rig, `sharp` of its pixels across, and what belongs to it. */
  #paint(sharp) {
    const { state } = this;
    const side = Math.min(this.picture.clientWidth, this.picture.clientHeight);
    this.plane.style.width = this.plane.style.height = `${side}px`;
    const scale = devicePixelRatio * sharp;
    const pixels = Math.max(1, Math.round(side * scale));
    const label = state.before ? state.old : state.label;
    this.canvas.style.opacity = this.mode === "fill" ? this.opacity : 1;
    this.canvas.hidden = state.bare;
    this.mask.hidden = !state.mask;
    this.dots.hidden = !state.points || state.bare;
    this.painter.clear(pixels, pixels);
    if (!state.bare) this.painter.draw(label, state.region, [0, 0, pixels, pixels], { mode: this.mode, scale });
    if (!this.dots.hidden) this.#drawPoints(label, Math.max(1, Math.round(side * devicePixelRatio)));
    this.sign.textContent = state.before ? t("correct.before") : "";
    this.#write(label);
  }

  #drawInsets(label) {
    const side = Math.round(INSET * devicePixelRatio);
    this.small.clear(3 * side, side);
    Object.entries(sideViews(label)).forEach(([name, view]) => {
      const at = VIEWS.indexOf(name);
      this.small.draw(view, [0, 0, 1], [at * side, 0, side, side]);
    });
  }

  /** Detected points as dots, the rig's as rings, and what lies between them. */
  #drawPoints(label, pixels) {
    this.dots.width = this.dots.height = pixels;
    const pen = this.dots.getContext("2d");
    const [x, y, side] = this.state.region;
    const places = this.rig.posedLandmarks(label.pose);
    pen.lineWidth = 2 * devicePixelRatio;
    COCO.forEach((name, at) => {
      const [across, down, score] = this.state.keypoints.slice(3 * at, 3 * at + 3);
      const row = this.rig.landmarkNames.indexOf(name);
      if (!(score >= SEEN) || row < 0) return;
      const [px, py] = projected(label, places.slice(3 * row, 3 * row + 3));
      const [seen, own] = [[across, down], [((px - x) / side) * this.state.size, ((py - y) / side) * this.state.size]].map((point) =>
        point.map((value) => (value / this.state.size) * pixels),
      );
      const radius = 4 * devicePixelRatio;
      pen.strokeStyle = pen.fillStyle = name.startsWith("left") ? "#ffd23f" : name.startsWith("right") ? "#5ee27a" : "#fff";
      pen.beginPath();
      pen.moveTo(...seen);
      pen.lineTo(...own);
      pen.stroke();
      pen.beginPath();
      pen.arc(...seen, radius, 0, 7);
      pen.fill();
      pen.beginPath();
      pen.arc(...own, 1.5 * radius, 0, 7);
      pen.stroke();
    });
  }

  #write(label) {
    const [now, old] = [angles(label), angles(this.state.old)];
    const values = ["yaw", "pitch", "roll"].flatMap((name) => [degrees(now[name]), signed(now[name] - old[name])]);
    values.push(degrees(difference(label, this.state.old)), "");
    this.#values.forEach((element, at) => element.textContent !== values[at] && (element.textContent = values[at]));
    const { part, hypotheses, undo, redo, mask, points, own } = this.state;
    const signature = JSON.stringify([part, hypotheses.length, undo, redo, mask, points, Boolean(own), this.mode]);
    if (signature === this.#shown) return; // a moving rig changes no button
    this.#shown = signature;
    this.takeBack.hidden = !own;
    for (const [{ action, given }, button] of this.#buttons) {
      if (action === "part") button.ariaPressed = part === given;
      if (action === "hypothesis") button.disabled = !hypotheses[given];
      if (action === "undo") button.disabled = !undo;
      if (action === "redo") button.disabled = !redo;
      if (action === "mask") button.ariaPressed = mask;
      if (action === "points") button.ariaPressed = points;
      if (action === "mode") button.firstChild.textContent = `${t(`correct.mode.${this.mode}`)} `;
    }
  }

  #makeNumbers() {
    const names = [t("correct.yaw"), t("correct.pitch"), t("correct.roll"), t("correct.away")];
    return names.flatMap((name) => {
      const [value, change] = [make("b"), make("span", { className: "muted" })];
      this.#values.push(value, change);
      return [make("dt", { textContent: name }), make("dd", {}, [value, change])];
    });
  }

  // ---- the side ---------------------------------------------------------------------------------------------

  #side(act, step) {
    const views = make("figure", { className: "correct-views" }, [
      this.insets,
      make("figcaption", {}, VIEWS.map((name) => make("span", { textContent: t(`correct.view.${name}`) }))),
    ]);
    const groups = ["Jump", "Turn", "Part", "Move", "Look", "End"].map((group) => {
      const title = group === "End" ? "" : t(`correct.group.${group}`);
      const rows = CORRECT_KEYS.filter((row) => row.group === group);
      const buttons = rows.map((row) => this.#button(row, act, step));
      return make("div", { className: `correct-group ${group.toLowerCase()}`, role: "group", ariaLabel: title || t("correct.name") }, [
        ...(title ? [make("h2", { textContent: title })] : []),
        ...buttons,
      ]);
    });
    return make("div", { className: "correct-side" }, [
      this.numbers, this.note, this.takeBack, views, ...groups, make("p", { className: "small", textContent: t("correct.hint") }),
    ]);
  }

  #button(row, act, step) {
    const button = make("button", { type: "button", title: textOf(row) }, [
      document.createTextNode(`${labelOf(row)} `),
      ...(row.shown[0] === labelOf(row) ? [] : [make("kbd", { textContent: row.shown[0] })]),
    ]);
    button.ariaLabel = `${textOf(row)} (${row.shown[0]})`;
    button.dataset.correct = row.move ? row.move.join() : `${row.action}${row.given ?? ""}`;
    if (row.action === "save") button.className = "main";
    this.#buttons.set(row, button);
    if (row.held) {
      const held = (on) => () => act(row.action, on);
      button.addEventListener("pointerdown", held(true));
      for (const name of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(name, held(false));
      button.addEventListener("keydown", (event) => ["Enter", "Space"].includes(event.code) && act(row.action, true));
      button.addEventListener("keyup", held(false));
    } else if (row.move) repeatWhileHeld(button, (event, again) => step(row.move, event.shiftKey, again));
    else button.addEventListener("click", () => act(row.action, row.given));
    button.addEventListener("click", (event) => event.detail > 0 && this.picture.focus({ preventScroll: true }));
    return button;
  }
}

/** A press acts at once, and again and again until it ends; keys on the button act once a press. */
function repeatWhileHeld(button, act) {
  let timer = null;
  const end = () => clearTimeout(timer);
  button.addEventListener("pointerdown", (event) => {
    act(event, false);
    const again = () => {
      act(event, true);
      timer = setTimeout(again, 60);
    };
    timer = setTimeout(again, 350);
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(name, end);
  button.addEventListener("click", (event) => event.detail === 0 && act(event, false));
}

const degrees = (angle) => `${((angle * 180) / Math.PI).toFixed(1)}°`.replace("-", "−");

function signed(angle) {
  const turn = Math.atan2(Math.sin(angle), Math.cos(angle));
  return Math.abs(turn) < 0.0005 ? "" : `${turn > 0 ? "+" : ""}${degrees(turn)}`;
}

function make(name, properties = {}, children = []) {
  const element = document.createElement(name);
  const { role, ...others } = properties;
  if (role) element.setAttribute("role", role);
  Object.assign(element, others);
  element.append(...children);
  return element;
}
