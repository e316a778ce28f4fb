// The outbox: decisions wait here, on this computer's disk, until the service has said that they are saved.
//
// A decision is written to IndexedDB (flushed: `durability: "strict"`) and sent in the order of its ULID. Until
// that is done, which takes milliseconds, localStorage has it at once: a page may be closed in between.
// It leaves the outbox only when the service confirms it; the service knows decisions by their id, so a
// decision that is sent twice counts once. Pages of the same browser share the outbox and take turns to send.

import { LoginNeeded, Refused, Unreachable, post } from "./api.js";

const BATCH = 50;
const WAITS = [500, 1000, 2000, 4000, 8000, 15000]; // milliseconds between attempts

/** `owner` keeps people (and workspaces) who share a browser apart: only their own decisions are sent. */
export class Outbox extends EventTarget {
  #database = null;
  #waiting = new Map(); // decision_id -> decision, in order
  #kept = new Set(); // ids of those that are on the disk of this computer
  #writes = Promise.resolve();
  #attempt = 0;
  #timer = null;
  #sending = false;

  #deliverTo;
  #lane; // name of the database and of the lock
  #notes; // then decision_id: what localStorage has before IndexedDB does

  /** Other records than decisions have a `lane` of their own, and `deliver`: a batch -> the service's answer. */
  constructor(owner, { lane = "phq-review", deliver = (decisions) => post("/api/decisions", { decisions }) } = {}) {
    super();
    this.owner = owner;
    this.#deliverTo = deliver;
    this.#lane = lane;
    this.#notes = `${lane === "phq-review" ? "phq-outbox" : lane}/${owner}/`;
    this.saved = 0; // confirmed since the page opened
    this.state = "saved"; // saved, sending, offline, busy, login
    this.message = "";
    this.refused = [];
    this.durable = false; // whether this browser keeps what waits
  }

  /** Read what an earlier page left behind, and begin to send it. */
  async open() {
    try {
      this.#database = await openDatabase(this.#lane);
      this.durable = true;
      for (const row of await this.#stored()) {
        this.#waiting.set(row.decision_id, row.decision);
        this.#kept.add(row.decision_id);
      }
    } catch {
      this.#database = null; // private windows of some browsers: the page still works, and says so
    }
    for (const decision of this.#noted()) {
      if (this.#kept.has(decision.decision_id)) this.#unnote(decision.decision_id);
      else {
        this.#waiting.set(decision.decision_id, decision);
        this.#writes = this.#writes.then(() => this.#keep([decision]));
      }
    }
    this.#waiting = new Map([...this.#waiting].sort(([one], [other]) => (one < other ? -1 : 1)));
    addEventListener("online", () => this.send());
    addEventListener("offline", () => this.#waiting.size && this.#tell("offline"));
    if (this.#waiting.size) this.send();
    return this;
  }

  /** Decisions that the service has not confirmed, oldest first. */
  get waiting() {
    return [...this.#waiting.values()];
  }

  /** Keep decisions and send them as soon as possible. Returns at once. */
  add(...decisions) {
    for (const decision of decisions) {
      this.#waiting.set(decision.decision_id, decision);
      this.#note(decision);
    }
    this.#writes = this.#writes.then(() => this.#keep(decisions));
    this.#tell(this.state === "saved" ? "sending" : this.state);
    // While the service is away its own timer decides; a new decision must not hammer it.
    if (!this.#timer) this.send();
  }

  /** Resolves when everything is on the disk of this computer (not: of the service). */
  get written() {
    return this.#writes;
  }

  /** Send now what waits. */
  async send() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#sending) return;
    this.#sending = true;
    try {
      await inTurn(this.#lane, () => this.#deliver());
    } finally {
      this.#sending = false;
    }
    // What was added after the last look and before this line.
    if (this.#waiting.size && !this.#timer) this.send();
  }

  async #deliver() {
    await this.#writes;
    await this.#forgetSentElsewhere();
    while (this.#waiting.size) {
      const batch = this.waiting.slice(0, BATCH);
      try {
        await this.#sendBatch(batch);
        this.#attempt = 0;
      } catch (error) {
        this.#later(error);
        return;
      }
    }
    this.#tell("saved");
  }

  async #sendBatch(batch) {
    if (this.state === "saved") this.#tell("sending");
    let answer;
    try {
      answer = await this.#deliverTo(batch);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (batch.length > 1) {
        for (const one of batch) await this.#sendBatch([one]); // find the one that is not wanted
        return;
      }
      answer = { refused: [{ decision_id: batch[0].decision_id, why: error.message }] };
    }
    const refused = new Map((answer.refused ?? []).map((one) => [one.decision_id, one]));
    for (const decision of batch) {
      const no = refused.get(decision.decision_id);
      if (no) this.refused.push({ decision, why: no.why, elsewhere: no.elsewhere });
      else this.saved += 1;
      this.#waiting.delete(decision.decision_id);
      this.#kept.delete(decision.decision_id);
      this.#unnote(decision.decision_id);
    }
    await this.#drop(batch.map((decision) => decision.decision_id));
    this.dispatchEvent(new CustomEvent("delivered", { detail: { batch, refused, gold: answer.gold ?? [] } }));
    this.#tell(this.#waiting.size ? "sending" : "saved");
  }

  #later(error) {
    const wait = WAITS[Math.min(this.#attempt, WAITS.length - 1)];
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.send(), wait * (0.8 + 0.4 * Math.random()));
    if (error instanceof LoginNeeded) this.#tell("login", error.message);
    else if (error instanceof Unreachable) this.#tell(error.busy ? "busy" : "offline", error.message);
    else {
      this.#tell("busy", error.message);
      throw error;
    }
  }

  #tell(state, message = "") {
    this.state = state;
    this.message = message;
    this.dispatchEvent(new Event("change"));
  }

  // ---- the disk of this computer --------------------------------------------------------------------------

  async #keep(decisions) {
    if (!this.#database) return;
    try {
      const rows = decisions.map((decision) => ({ decision_id: decision.decision_id, owner: this.owner, decision }));
      await committed(this.#database, "readwrite", (store) => rows.forEach((row) => store.put(row)));
      for (const { decision_id: id } of rows) {
        this.#kept.add(id);
        this.#unnote(id);
      }
    } catch {
      this.durable = false;
      this.#tell(this.state);
    }
  }

  #note(decision) {
    try {
      localStorage.setItem(this.#notes + decision.decision_id, JSON.stringify(decision));
    } catch {
      // Full or switched off: IndexedDB has it in a moment.
    }
  }

  #unnote(id) {
    try {
      localStorage.removeItem(this.#notes + id);
    } catch {
      // It was not there either.
    }
  }

  /** Decisions of this owner that a page noted and did not write before it was closed. */
  #noted() {
    const found = [];
    let names = [];
    try {
      names = Object.keys(localStorage);
    } catch {
      // Switched off.
    }
    for (const name of names) {
      const id = name.slice(name.lastIndexOf("/") + 1);
      if (name !== this.#notes + id) continue;
      try {
        const decision = JSON.parse(localStorage.getItem(name));
        if (decision?.decision_id === id) found.push(decision);
      } catch {
        this.#unnote(id); // no decision: a page never leaves a part of one
      }
    }
    return found;
  }

  async #drop(ids) {
    if (!this.#database) return;
    await committed(this.#database, "readwrite", (store) => ids.forEach((id) => store.delete(id))).catch(
      () => {}, // it is sent again after a reload, and known to the service by its id
    );
  }

  async #stored() {
    const rows = await committed(this.#database, "readonly", (store) => store.getAll());
    return rows.filter((row) => row.owner === this.owner);
  }

  async #forgetSentElsewhere() {
    if (!this.durable) return;
    // Only what was on the disk before we look: a decision of this moment may be missing in what we read.
    const before = [...this.#kept];
    const there = new Set((await this.#stored()).map((row) => row.decision_id));
    for (const id of before) {
      if (there.has(id)) continue;
      this.#waiting.delete(id);
      this.#kept.delete(id);
    }
  }
}

function inTurn(lane, work) {
  // Absent on plain HTTP beyond loopback: two tabs may then send the same decision, which counts once.
  return navigator.locks ? navigator.locks.request(`${lane}-outbox`, work) : work();
}

function openDatabase(name) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(name, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("outbox", { keyPath: "decision_id" });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
    opening.onblocked = () => reject(new Error("another version of the page is open"));
  });
}

function committed(database, mode, work) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction("outbox", mode, { durability: "strict" });
    const result = work(transaction.objectStore("outbox"));
    transaction.oncomplete = () => resolve(result?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}
