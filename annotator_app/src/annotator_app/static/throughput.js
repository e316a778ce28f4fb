// Session progress: how many decisions, at which rate, and the time from a key press to the next portrait.

import { t } from "./texts.js";

const WINDOW = 3 * 60e3; // the rate is that of the last minutes
const PAUSE = 45e3; // a longer gap is a pause, not slow work

const FAST = 0.7; // seconds: a look that is hardly one
const ROW = 20; // of so many looks
const LONG = 50 * 60e3; // work without a break
const BREAK = 5 * 60e3;
const AGAIN = 15 * 60e3; // until the same is said once more

export class Throughput {
  #fast = 0; // decisions in a row that were very fast
  #begun = null; // of the work since the last break
  #last = null; // decision
  #said = new Map(); // what was said when
  #times = [];
  #paints = [];

  constructor() {
    this.done = 0; // today's standing decisions; the loop counts them
  }

  /** A decision was made, after `seconds` of looking; or `count` at once, as if one after another. */
  tick(seconds = Infinity, now = performance.now(), count = 1) {
    this.#fast = count === 1 && seconds < FAST ? this.#fast + 1 : 0;
    if (this.#last === null || now - this.#last > BREAK) this.#begun = now;
    this.#last = now;
    const each = count > 1 ? (1000 * seconds) / count : 0;
    const made = Array.from({ length: count }, (_, at) => now - (count - 1 - at) * each);
    this.#times = [...this.#times, ...made].filter((time) => now - time < WINDOW);
  }

  /** Decisions were taken back. */
  back(count = 1) {
    this.#times.splice(-count);
  }

  /** A gentle word, when there is a reason for one; else "". */
  word(now = performance.now()) {
    if (this.#fast >= ROW && this.#maySay("fast", now)) {
      return t("too_fast", { count: this.#fast, seconds: FAST });
    }
    if (this.#last !== null && this.#last - this.#begun > LONG && now - this.#last < BREAK && this.#maySay("long", now)) {
      return t("too_long", { minutes: Math.round((this.#last - this.#begun) / 60e3) });
    }
    return "";
  }

  #maySay(what, now) {
    if (now - (this.#said.get(what) ?? -Infinity) < AGAIN) return false;
    this.#said.set(what, now);
    return true;
  }

  /** Decisions a minute, or null before there are enough to tell. */
  get perMinute() {
    const gaps = this.#times.slice(1).map((time, at) => time - this.#times[at]);
    const working = gaps.filter((gap) => gap < PAUSE);
    if (working.length < 3) return null;
    return (60e3 * working.length) / working.reduce((sum, gap) => sum + gap, 0);
  }

  /** Milliseconds from a key press to the next portrait on the screen. */
  painted(milliseconds) {
    this.#paints.push(milliseconds);
    if (this.#paints.length > 2000) this.#paints.shift();
  }

  get paints() {
    return [...this.#paints];
  }

  /** The share-th percentile of those milliseconds, or null. */
  percentile(share) {
    if (!this.#paints.length) return null;
    const sorted = this.paints.sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
  }
}
