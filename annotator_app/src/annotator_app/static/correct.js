// The correction: the label of a portrait is moved until the rig lies on the person, and saved as a record.

import { get, post } from "./api.js";
import { listenToCorrectKeys, listenToGestures, stepOf } from "./correct_keys.js";
import { CorrectView } from "./correct_view.js";
import { loadRig } from "./rig_file.js";
import { bent, flipped, scaled, shifted, turned, turnedAround } from "./rig_label.js";
import { t } from "./texts.js";

const DRAFTS = "phq-correction-draft/"; // then owner/portrait
const MOST_STEPS = 500;
const MOVED = 1e-6;
const PORTRAIT = 512; // pixels of a portrait: in these the detected points are

/** Opens for one portrait at a time. `owner` keeps the drafts of people who share a browser apart. */
export class Correction {
  #view = null;
  #session = null; // what is being corrected

  constructor(owner) {
    this.owner = owner;
  }

  get open() {
    return this.#session !== null;
  }

  /** Frames drawn so far, for measurements. */
  get frames() {
    return this.#view?.frames ?? 0;
  }

  /**
   * Correct the portrait of a feed's entry. Resolves with {label, seconds, over, settles}, {takeBack: id}, or null
   * when the person left; calls `opened` when it is to be seen. Throws an Error for people when it cannot be corrected.
   */
  async correct({ item, crop }, opened = () => {}) {
    const [answer, rig] = await Promise.all([get(`/api/portraits/${item.portrait_id}/label`), loadRig(item.rig_version)]);
    if (!answer.label) throw new Error(answer.why || t("correct.no_label"));
    if (!answer.correctable) throw new Error(answer.why);
    this.#view ??= new CorrectView(makeRoot(), { act: (action, given) => this[action](given), step: (move, fine, again) => this.move(stepOf(move, fine), again) });
    opened();
    return new Promise((resolve) => {
      const over = new AbortController();
      const own = standing(answer.corrections);
      const start = this.#draft(item.portrait_id) ?? own?.label ?? answer.label;
      this.#session = {
        size: crop?.naturalWidth || PORTRAIT,
        id: item.portrait_id, old: answer.label, answer, own, resolve, over, since: performance.now(), item,
        steps: [start], at: 0, part: "body", bare: false, before: false, mask: false, points: false,
      };
      this.#view.root.hidden = false;
      document.body.classList.add("correcting");
      this.#view.setRig(rig);
      this.#view.show(item, crop);
      this.#view.say(answer.why);
      listenToCorrectKeys(this, over.signal);
      listenToGestures(this.#view.picture, this, over.signal);
      this.#view.picture.focus({ preventScroll: true });
      const ruling = !answer.settles ? "" : answer.state === "disputed" ? t("correct.settles") : t("correct.anew");
      const shown = this.#draft(item.portrait_id) ? t("correct.draft") : own ? t("correct.own") : "";
      if (ruling || shown) this.#view.say([ruling, shown].filter(Boolean).join(". "));
      this.#show();
    });
  }

  // ---- moving -----------------------------------------------------------------------------------------------

  /** Move by {yaw, pitch, roll} radians, {across, down} window widths, {scale}. `goesOn`: no undo step of its own. */
  move(amount, goesOn = false) {
    const { part } = this.#session;
    let label = this.#label;
    const turns = amount.yaw || amount.pitch || amount.roll;
    if (turns && part === "body") label = turned(label, amount);
    else if (turns) label = bent(label, part, amount);
    if (amount.across || amount.down) {
      const share = this.#session.item.window[2] / label.window[2]; // the picture is as wide as the portrait's window
      label = shifted(label, (amount.across ?? 0) * share, (amount.down ?? 0) * share);
    }
    if (amount.scale) label = scaled(label, amount.scale);
    this.#step(label, goesOn);
  }

  part(name) {
    this.#session.part = name;
    this.#show();
  }

  flip() {
    this.#step(flipped(this.#label));
    this.#view.say(t("correct.flipped"));
  }

  around() {
    this.#step(turnedAround(this.#label));
    this.#view.say(t("correct.around"));
  }

  hypothesis(number) {
    const found = this.#session.answer.hypotheses[number];
    if (found) this.#step(found.label);
    this.#view.say(found ? t("correct.hypothesis", { number: number + 1, yaw: degrees(found.yaw) }) : t("correct.none"));
  }

  /** Fit again from here, in the service. */
  async snap() {
    const session = this.#session;
    if (session.snapping) return;
    session.snapping = true;
    this.#view.say(t("correct.snapping"));
    try {
      const { label, residual, yaw_moved: moved } = await post(`/api/portraits/${session.id}/snap`, { label: this.#label });
      if (this.#session !== session) return;
      this.#step(label);
      this.#view.say(t("correct.snapped", { moved: degrees(Math.abs(moved)), error: `${Math.round(100 * residual)} %` }));
    } catch (error) {
      if (this.#session === session) this.#view.say(error.message);
    } finally {
      session.snapping = false;
    }
  }

  undo() {
    const session = this.#session;
    session.at = Math.max(0, session.at - 1);
    this.#show();
  }

  redo() {
    const session = this.#session;
    session.at = Math.min(session.steps.length - 1, session.at + 1);
    this.#show();
  }

  reset() {
    this.#step(this.#session.old);
    this.#view.say(t("correct.reset"));
  }

  // ---- looking ----------------------------------------------------------------------------------------------

  bare(on) {
    this.#look({ bare: Boolean(on) });
  }

  before(on) {
    this.#look({ before: Boolean(on) });
  }

  mask() {
    this.#look({ mask: !this.#session.mask });
  }

  points() {
    this.#look({ points: !this.#session.points });
  }

  mode() {
    this.#view.nextMode();
  }

  fainter() {
    this.#view.setOpacity(this.#view.opacity - 0.1);
  }

  stronger() {
    this.#view.setOpacity(this.#view.opacity + 0.1);
  }

  // ---- ending -----------------------------------------------------------------------------------------------

  save() {
    const { own, since, id, answer } = this.#session;
    const seconds = (performance.now() - since) / 1000;
    this.#keepDraft(id); // until it is delivered: the service may refuse it
    this.#end({ label: this.#label, seconds, over: own?.correction_id ?? "", settles: answer.settles });
  }

  takeBack() {
    const { correction_id: takeBack } = this.#session.own;
    this.#putAside();
    this.#end({ takeBack });
  }

  leave() {
    this.#putAside();
    this.#end(null);
  }

  /** The service has this label: it is no draft any more, unless it was moved since. */
  delivered(portrait, label) {
    const draft = this.#draft(portrait);
    if (draft && same(draft, label)) this.#forgetDraft(portrait);
  }

  /** What was moved stays as a draft. */
  #putAside() {
    const { id, old, own } = this.#session;
    if (same(this.#label, own?.label ?? old)) this.#forgetDraft(id);
    else this.#keepDraft(id);
  }

  #end(answer) {
    const { resolve, over } = this.#session;
    over.abort();
    this.#session = null;
    this.#view.state = null;
    this.#view.root.hidden = true;
    document.body.classList.remove("correcting");
    resolve(answer);
  }

  // ---- inside -----------------------------------------------------------------------------------------------

  get #label() {
    return this.#session.steps[this.#session.at];
  }

  #step(label, goesOn = false) {
    const session = this.#session;
    session.steps.length = session.at + 1;
    if (goesOn && session.at > 0) session.steps[session.at] = label;
    else session.steps.push(label);
    if (session.steps.length > MOST_STEPS) session.steps.splice(1, 1);
    session.at = session.steps.length - 1;
    this.#show();
  }

  #look(change) {
    if (!this.#session) return;
    Object.assign(this.#session, change);
    this.#show();
  }

  #show() {
    const { old, item, answer, part, bare, before, mask, points, at, steps, own } = this.#session;
    this.#view.set({
      label: this.#label, old, region: item.window, size: this.#session.size, keypoints: answer.keypoints, part, bare, before, mask, points,
      undo: at > 0, redo: at < steps.length - 1, own, hypotheses: answer.hypotheses,
    });
  }

  // ---- drafts -----------------------------------------------------------------------------------------------

  #draft(id) {
    try {
      return JSON.parse(localStorage.getItem(`${DRAFTS}${this.owner}/${id}`));
    } catch {
      return null;
    }
  }

  #keepDraft(id) {
    try {
      localStorage.setItem(`${DRAFTS}${this.owner}/${id}`, JSON.stringify(this.#label));
    } catch {
      // Full or switched off: the draft is lost, nothing else.
    }
  }

  #forgetDraft(id) {
    try {
      localStorage.removeItem(`${DRAFTS}${this.owner}/${id}`);
    } catch {
      // It was not there either.
    }
  }
}

/** The own correction that stands, of rows oldest first; leads see those of others, too. */
function standing(all) {
  const rows = all.filter((row) => row.own);
  const taken = new Set(rows.filter((row) => row.kind === "undo").map((row) => row.undoes));
  return rows.findLast((row) => row.kind === "correct" && !taken.has(row.correction_id)) ?? null;
}

function same(one, other) {
  return ["camera", "pose", "window"].every((name) => one[name].every((value, at) => Math.abs(value - other[name][at]) < MOVED));
}

const degrees = (angle) => `${Math.round((angle * 180) / Math.PI)}°`.replace("-", "−");

function makeRoot() {
  const root = document.createElement("main");
  root.className = "correct-page";
  root.id = "correct";
  document.querySelector("main.loop").after(root);
  return root;
}
