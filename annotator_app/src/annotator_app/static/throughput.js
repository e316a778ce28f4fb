// Session progress: how many decisions, at which rate, and the time from a key press to the next portrait.

const WINDOW = 3 * 60e3; // the rate is that of the last minutes
const PAUSE = 45e3; // a longer gap is a pause, not slow work

export class Throughput {
  #times = [];
  #paints = [];

  constructor() {
    this.done = 0; // today's standing decisions; the loop counts them
  }

  /** A decision was made. */
  tick(now = performance.now()) {
    this.#times = [...this.#times.filter((time) => now - time < WINDOW), now];
  }

  /** A decision was taken back. */
  back() {
    this.#times.pop();
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
