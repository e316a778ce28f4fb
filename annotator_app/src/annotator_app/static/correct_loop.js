// The correction within the loop: what C does, and what becomes of it.

import { Correction } from "./correct.js";
import { correctionOf, keepCorrection, undoOf } from "./correct_outbox.js";
import { t } from "./texts.js";


const ADJUDICATION = "adjudication/"; // so begins the client of what settles a dispute
const SLOW = 400; // milliseconds

export class Correcting {
  #correction;

  constructor(loop, outbox, client) {
    this.loop = loop;
    this.outbox = outbox;
    this.client = client;
    this.#correction = new Correction(outbox.owner);
    outbox.addEventListener("delivered", ({ detail: { batch, refused } }) => {
      const there = batch.filter((one) => one.verdict === "correct" && !refused.has(one.decision_id));
      there.forEach((one) => this.#correction.delivered(one.portrait_id, one.label));
    });
  }

  /** Frames that the correction drew, for measurements. */
  get frames() {
    return this.#correction.frames;
  }

  /** Correct the portrait of an entry; null: there is none to be seen. */
  async correct(entry) {
    if (!entry || this.#correction.open) return;
    const { status, stage } = this.loop;
    const slow = setTimeout(() => status.toast(t("correct.opening")), SLOW);
    const opened = () => {
      clearTimeout(slow);
      status.endToast(); // it would lie over the person
    };
    try {
      const answer = await this.#correction.correct(entry, opened);
      if (answer?.takeBack) {
        this.takeBack(entry.id, answer.takeBack);
        status.toast(t("correct.back"));
      } else if (answer) {
        entry.item.own_verdict = "correct";
        const client = answer.settles ? ADJUDICATION + this.client : this.client;
        this.#send(correctionOf(entry.id, answer, client), entry);
        status.say(answer.settles ? t("correct.dispute_settled") : t("correct.corrected"));
      }
    } catch (error) {
      clearTimeout(slow);
      status.toast(t("correct.refused", { why: error.message }));
    }
    stage.root.focus({ preventScroll: true });
  }

  /** Take back a correction of this person. */
  takeBack(portrait, correction) {
    this.#send(undoOf(portrait, correction, this.client));
  }

  #send(record, entry = null) {
    this.outbox.add(record);
    keepCorrection(this.outbox.owner, record);
    this.loop.corrected(record, entry);
  }
}
