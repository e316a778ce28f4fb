// The correction within the loop: what C does, and what becomes of it.

import { Correction } from "./correct.js";
import { correctionOf, keepCorrection, undoOf } from "./correct_outbox.js";

const TEXT = {
  corrected: "Corrected", back: "Your correction is taken back",
  refused: (why) => `The label cannot be corrected: ${why}`,
};

export class Correcting {
  #correction;

  constructor(loop, outbox, client) {
    this.loop = loop;
    this.outbox = outbox;
    this.client = client;
    this.#correction = new Correction(outbox.owner);
  }

  /** Frames that the correction drew, for measurements. */
  get frames() {
    return this.#correction.frames;
  }

  /** Correct the portrait of an entry; null: there is none to be seen. */
  async correct(entry) {
    if (!entry || this.#correction.open) return;
    const { status, stage } = this.loop;
    try {
      const answer = await this.#correction.correct(entry);
      if (answer?.takeBack) {
        this.takeBack(entry.id, answer.takeBack);
        status.toast(TEXT.back);
      } else if (answer) {
        entry.item.own_verdict = "correct";
        this.#send(correctionOf(entry.id, answer, this.client), entry);
        status.say(TEXT.corrected);
      }
    } catch (error) {
      status.toast(TEXT.refused(error.message));
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
