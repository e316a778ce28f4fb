// Corrections on their way to the service: kept on this computer until it has confirmed them, as decisions are.

import { post } from "./api.js";
import { Outbox } from "./outbox.js";
import { ulid } from "./ulid.js";

/** The outbox of a person's corrections. */
export const correctionOutbox = (owner) => new Outbox(owner, { lane: "phq-corrections", deliver });

const KEPT = "phq-corrected/"; // then owner: what the page's history knows of corrections, over a reload
const MOST_KEPT = 200;

/** A record that says where the rig lies now. */
export const correctionOf = (portrait, { label, seconds, over }, client) =>
  record({ verdict: "correct", portrait_id: portrait, label, undoes: null, over, seconds: Math.round(seconds * 1000) / 1000, client });

/** A record that takes back an earlier one. */
export const undoOf = (portrait, correction, client) =>
  record({ verdict: "undo", portrait_id: portrait, label: null, undoes: correction, over: null, seconds: 0, client });

/** Corrections and undos of this owner that this browser made, oldest first, as rows of the page's history. */
export function keptCorrections(owner) {
  try {
    return JSON.parse(localStorage.getItem(KEPT + owner)) ?? [];
  } catch {
    return [];
  }
}

/** Remember a record for the next page. */
export function keepCorrection(owner, { decision_id, portrait_id, verdict, time }) {
  try {
    const rows = [...keptCorrections(owner), { decision_id, portrait_id, verdict, time, reason: "" }];
    localStorage.setItem(KEPT + owner, JSON.stringify(rows.slice(-MOST_KEPT)));
  } catch {
    // Full or switched off: after a reload the portrait may be asked for again.
  }
}

function record(fields) {
  // As the page's decisions: the outbox and the history that undo walks know records by these names.
  return { decision_id: ulid(), time: new Date().toISOString(), reason: "", ...fields };
}

async function deliver(batch) {
  const corrections = batch.map(({ decision_id, verdict, time, reason, ...others }) => ({
    correction_id: decision_id, kind: verdict, client_time: Date.parse(time), note: reason, ...others,
  }));
  const answer = await post("/api/corrections", { corrections });
  return { refused: answer.refused.map(({ correction_id, ...others }) => ({ decision_id: correction_id, ...others })) };
}
