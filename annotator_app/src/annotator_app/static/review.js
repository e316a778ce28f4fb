// The loop: one key decides, the next portrait is painted, the decision is on its way to the service.

import { LoginNeeded, get } from "./api.js";
import { Correcting } from "./correct_loop.js";
import { correctionOutbox, interleaved, keptCorrections } from "./correct_outbox.js";
import { Dialogs } from "./dialogs.js";
import { Feed } from "./feed.js";
import { isToday, standing } from "./history.js";
import { ignoreTyping, listenToKeys } from "./keys.js";
import { AtHand, askAgain } from "./offline.js";
import { Outbox } from "./outbox.js";
import { Panels } from "./panels.js";
import { Sheet } from "./sheet.js";
import { Stage } from "./stage.js";
import { Status } from "./status.js";
import { t } from "./texts.js";
import { Throughput } from "./throughput.js";
import { ulid } from "./ulid.js";

const CLIENT = "phq-review-page/2";
const SHEET = "sheet/"; // so begins the client of what was decided on the contact sheet
const PAGE = 500; // decisions asked for at a time
const FOLLOW = 2000; // milliseconds between looks for what was decided elsewhere
const OVERLAP = 20; // rows that are asked for again: PostgreSQL may show one after another of a higher number
const STRIP = 12; // latest decisions that are shown
const MOST_SECONDS = 3600; // a decision that took longer was a pause

class Loop {
  #log = []; // own decisions and undos that this page knows, oldest first
  #before = null; // where the service's history goes on; null = there is no more
  #history = []; // own standing decisions, oldest first
  #seen = 0; // number of the service's latest row of these
  #following = false;
  #since = null; // when the current portrait was painted
  #pressed = null; // time stamp of the key that asked for the current portrait
  #away = 0; // milliseconds that the page was hidden since

  constructor({ me, settings, outbox, corrections }) {
    this.me = me;
    this.settings = settings;
    this.outbox = outbox;
    this.correcting = new Correcting(this, corrections, CLIENT);
    this.throughput = new Throughput();
    const atHand = new AtHand(outbox.owner);
    this.feed = new Feed(() => {
      const corrected = this.#history.filter((one) => one.verdict === "correct");
      return [...standing(this.outbox.waiting), ...corrected].map((decision) => decision.portrait_id);
    }, atHand);
    atHand.begin(() => askAgain(this.feed.entries));
    this.stage = new Stage(document.getElementById("stage"));
    this.panels = new Panels(document, { recall: (id) => this.recall(id) });
    this.dialogs = new Dialogs(document, settings, { lead: me.role === "lead" });
    this.status = new Status(document, this);
    this.sheet = new Sheet(this);
    this.channel = "BroadcastChannel" in window ? new BroadcastChannel("phq-review") : null;
    this.#restorePreferences();
    this.#listen();
  }

  /** Ask for the queue and what was decided before, and show the first portrait. */
  async start() {
    this.#log = keptCorrections(this.outbox.owner); // the service's history has decisions alone
    this.#history = standing(this.#log);
    const unsent = this.outbox.waiting; // now: it may be delivered after the service looked into its history
    const [, history] = await Promise.all([
      this.feed.restart({ order: this.order, filter: this.filter }),
      get(`/api/history?limit=${PAGE}`).catch(() => ({ decisions: [], before: null })),
    ]);
    this.#remember(history, unsent);
    await this.#lookBack(() => this.#history.length < STRIP || isToday(this.#log[0])).catch(() => {});
    this.#showLatest();
    const address = new URL(location.href);
    const asked = address.searchParams.get("portrait"); // a link to one; then, and after a reload, the queue goes on
    if (asked) {
      await this.recall(asked);
      address.searchParams.delete("portrait");
      window.history.replaceState(null, "", address);
    }
    this.#advanceTo();
    setInterval(() => this.#follow(), FOLLOW);
  }

  // ---- what was decided elsewhere -------------------------------------------------------------------------

  /** Ask what other clients of this reviewer decided since. */
  async #follow() {
    if (this.#following || document.hidden) return;
    this.#following = true;
    try {
      const after = Math.max(0, this.#seen - OVERLAP);
      const { decisions } = await get(`/api/history?limit=${PAGE}&after=${after}`);
      this.#seen = Math.max(this.#seen, ...decisions.map((one) => one.seq));
      this.#takeOver(decisions.reverse());
    } catch {
      // The outbox says when the service is away; the next look comes soon.
    } finally {
      this.#following = false;
    }
  }

  /** Decisions of other pages and clients, oldest first: they count as if they were made here. */
  #takeOver(decisions) {
    const known = new Set(this.#log.map((one) => one.decision_id));
    const fresh = decisions.filter((one) => !known.has(one.decision_id));
    if (!fresh.length) return;
    this.#log.push(...fresh);
    this.#settle();
    this.feed.forget(fresh.filter((one) => one.verdict !== "undo").map((one) => one.portrait_id));
    const { current } = this.feed;
    const shown = fresh.findLast((one) => one.portrait_id === current?.id);
    if (shown && (current.item.own_verdict || shown.verdict === "undo")) {
      current.item.own_verdict = this.#own(current.id) ?? null; // looked at again: it stays, and says what stands
      this.status.show(current);
    } else if (shown) {
      this.feed.advance();
      this.status.toast(t("elsewhere", { verdict: t(`verb.${shown.verdict}`) }));
      this.#advanceTo();
    }
    if (fresh.some((one) => one.verdict === "undo")) this.feed.reopen().catch(() => {});
  }

  /** What the service did not take does not stand. */
  #forget(refused) {
    if (!refused.size) return;
    this.#log = this.#log.filter((one) => !refused.has(one.decision_id));
    this.#settle();
    this.#follow();
  }

  #settle() {
    this.#history = standing(this.#log);
    this.#count();
    this.#showLatest();
  }

  /** The own decision that a new one replaces, as far as this page knows: "" = none, null = not known here. */
  #over(id, item) {
    const here = (one) => one.portrait_id === id && one.verdict !== "correct";
    const top = this.#history.findLast(here);
    if (top) return top.decision_id;
    if (!this.#log.some(here)) return item.own_decision_id ?? "";
    return this.#before === null ? "" : null; // all was undone, as far back as the page knows
  }

  /** A page of the service's history, and what an earlier page left unsent, come before what is known here. */
  #remember({ decisions, before }, unsent = []) {
    this.#log = interleaved([...[...decisions].reverse(), ...unsent, ...this.#log]);
    this.#before = before;
    this.#seen = Math.max(this.#seen, ...decisions.map((one) => one.seq));
    this.#history = standing(this.#log);
    this.#count();
  }

  /** Go back in the service's history while something is wanted; rows of undone decisions count there too. */
  async #lookBack(wanted) {
    while (this.#before !== null && wanted()) {
      this.#remember(await get(`/api/history?limit=${PAGE}&before=${this.#before}`));
    }
  }

  /** What stands of today's decisions, those of earlier pages included. */
  #count() {
    this.throughput.done = this.#history.filter(isToday).length;
  }

  // ---- deciding -------------------------------------------------------------------------------------------

  accept(event) {
    this.#decide("accept", {}, event);
  }

  async reject(event) {
    const entry = this.#judged();
    if (!entry) return;
    const answer = await this.askReason();
    if (answer && this.feed.current === entry) this.#decide("reject", answer, answer.event ?? event);
  }

  /** {reason, note, event} of a reject, or null. */
  askReason() {
    return this.dialogs.reason(this.#history.findLast((one) => one.verdict === "reject"));
  }

  async flag(event) {
    const entry = this.#judged();
    if (!entry) {
      ignoreTyping(); // a note begun too early decides nothing
      return;
    }
    const note = await this.dialogs.note();
    if (note === null) return;
    if (this.feed.current === entry) this.#decide("flag", { note }, event);
    else this.status.toast(t("not_flagged"));
  }

  skip(event) {
    if (!this.feed.current) return;
    if (this.feed.held < 2) {
      this.status.toast(t("only_portrait"));
      return;
    }
    this.feed.skip();
    this.status.say(t("skipped"));
    this.#advanceTo(event);
  }

  /** Take back the latest standing decision, or batch of the contact sheet, and show what it was about; returns ids. */
  async undo() {
    const one = () => this.#history.at(-1);
    await this.#lookBack(() => !one() || togetherWith(one())(this.#log[0])).catch(() => {});
    const last = one();
    if (!last) {
      this.status.toast(t("nothing_to_undo"));
      return [];
    }
    const together = this.#history.filter(togetherWith(last));
    this.#history = this.#history.filter((other) => !together.includes(other));
    if (last.verdict === "correct") this.correcting.takeBack(last.portrait_id, last.decision_id);
    else this.#send(together.map((undone) => ({ portrait_id: undone.portrait_id, verdict: "undo", over: undone.decision_id })));
    this.throughput.back(together.length);
    this.#count();
    this.stage.flash("undo");
    const verb = t(`verb.${last.verdict}`);
    this.status.say(together.length > 1 ? t("sheet.undone", { verdict: verb, count: together.length }) : t("undone", { verdict: verb }));
    this.#showLatest();
    const ids = together.map((undone) => undone.portrait_id);
    try {
      await this.feed.recallAll(Object.fromEntries(ids.map((id) => [id, this.#own(id) ?? null])));
      this.#advanceTo();
    } catch {
      this.status.toast(t("undone_away"));
    }
    return ids;
  }

  /** Move the label until it is right; the portrait then counts as corrected. */
  correct() {
    return this.correcting.correct(this.#judged());
  }

  /** A correction of this page, or its undo, was made. `entry`: the portrait that is done by it. */
  corrected(record, entry = null) {
    this.#log.push(record);
    if (entry) this.throughput.tick();
    this.#settle();
    if (!entry || this.feed.current !== entry) return;
    this.feed.advance();
    this.stage.flash("correct");
    this.#advanceTo();
  }

  /** Look at a decided portrait again; deciding it anew adds a decision, the last one counts. */
  async recall(id) {
    this.sheet.leave();
    try {
      await this.feed.recall(id, this.#own(id));
      this.#advanceTo();
      this.stage.root.focus({ preventScroll: true });
    } catch (error) {
      this.status.toast(t("not_shown", { id: id.slice(0, 8), why: error.message }), 6000);
    }
  }

  /** The verdict that stands here, sent or not; undefined when this page does not know. */
  #own(id) {
    return this.#history.findLast((one) => one.portrait_id === id)?.verdict;
  }

  /** The current portrait, when the person has seen it. */
  #judged() {
    const entry = this.feed.current;
    if (!entry) return null;
    if (this.#since !== null) return entry;
    this.status.toast(t("loading"));
    return null;
  }

  #decide(verdict, { reason = "", note = null }, event) {
    const entry = this.#judged();
    if (!entry) return;
    const seconds = Math.min(MOST_SECONDS, Math.max(0, performance.now() - this.#since - this.#away) / 1000);
    const over = this.#over(entry.id, entry.item);
    this.#take([entry], this.#send([{ portrait_id: entry.id, verdict, reason, note, seconds, over }]), seconds);
    this.stage.flash(verdict);
    this.#advanceTo(event);
    this.status.say(t(`told.${verdict}`, { done: this.throughput.done }));
  }

  /** Decide several portraits that were looked at together, for `seconds`. */
  decideAll(entries, verdict, { reason = "", note = null }, seconds) {
    const each = Math.min(MOST_SECONDS, seconds / entries.length);
    const given = entries.map(({ id, item }) => ({ portrait_id: id, verdict, reason, note, seconds: each, over: this.#over(id, item) }));
    this.#take(entries, this.#send(given, SHEET + CLIENT), each * entries.length);
    this.#advanceTo();
  }

  /** Decisions were made about these portraits: on to the next. */
  #take(entries, decisions, seconds) {
    entries.forEach((entry) => (entry.item.own_verdict = decisions[0].verdict));
    this.#history.push(...decisions);
    this.throughput.tick(seconds, performance.now(), entries.length);
    this.#count();
    this.feed.advance(entries);
  }

  /** Records of one moment, on their way. */
  #send(given, client = CLIENT) {
    const time = new Date().toISOString();
    const decisions = given.map(({ portrait_id, verdict, reason = "", note = null, seconds = 0, over }) => ({
      decision_id: ulid(), portrait_id, verdict, reason, note: note || null,
      time, seconds: Math.round(seconds * 1000) / 1000,
      rules: this.settings.rules, client, order: this.feed.order, over,
    }));
    this.#log.push(...decisions);
    this.outbox.add(...decisions);
    this.channel?.postMessage({ owner: this.outbox.owner, decisions });
    return decisions;
  }

  // ---- looking --------------------------------------------------------------------------------------------

  peek(on) {
    this.stage.peek(on);
  }

  toggleOverlay() {
    this.stage.setOverlay(!this.stage.overlay);
  }

  meshMode() {
    this.stage.nextMesh();
  }

  fainter() {
    this.stage.setOpacity(this.stage.opacity - 0.1);
  }

  stronger() {
    this.stage.setOpacity(this.stage.opacity + 0.1);
  }

  zoom() {
    this.stage.toggleZoom();
  }

  pixels() {
    this.stage.togglePixels();
  }

  fit() {
    this.stage.resetZoom();
  }

  lookLeft() {
    this.stage.step(-1, 0);
  }

  lookRight() {
    this.stage.step(1, 0);
  }

  lookUp() {
    this.stage.step(0, -1);
  }

  lookDown() {
    this.stage.step(0, 1);
  }

  photo() {
    this.stage.choose("photo");
  }

  mask() {
    this.stage.choose("mask");
  }

  neighbours() {
    this.panels.toggle("neighbours");
  }

  evidence() {
    this.panels.toggle("evidence");
  }

  /** An address that shows this portrait to whoever may see it. */
  async link() {
    const { current } = this.feed;
    if (!current) return;
    const address = new URL(location.pathname, location.href);
    address.searchParams.set("portrait", current.id);
    try {
      await navigator.clipboard.writeText(address.href);
      this.status.toast(t("link_copied"));
    } catch {
      this.status.toast(address.href, 15000); // no clipboard on plain HTTP beyond this computer
    }
  }

  help() {
    this.dialogs.help(this.throughput);
  }

  close() {
    if (this.stage.view !== "crop") this.stage.choose("crop");
    else if (this.stage.zoomed) this.stage.resetZoom();
  }

  async choose() {
    const chosen = await this.dialogs.queue({ order: this.order, filter: this.filter });
    if (!chosen) return;
    [this.order, this.filter] = [chosen.order, chosen.filter];
    localStorage.setItem("phq-queue", JSON.stringify(chosen));
    const address = new URL(location.href);
    address.searchParams.delete("order"); // the choice outlives a reload
    history.replaceState(null, "", address);
    this.#advanceTo();
    await this.feed.restart(chosen);
    this.#advanceTo();
  }

  /** The contact sheet of what comes next. */
  openSheet() {
    this.sheet.enter();
  }

  /** The loop is seen again: the current portrait counts as looked at from now on. */
  shown() {
    this.#advanceTo();
    this.stage.root.focus({ preventScroll: true });
  }

  /** Ask the queue again after it had ended. */
  again() {
    this.feed.reopen().then(() => this.#advanceTo());
  }

  // ---- showing --------------------------------------------------------------------------------------------

  #advanceTo(event) {
    const entry = this.feed.current;
    this.#since = null;
    this.#away = 0;
    document.body.dataset.ready = "";
    this.#pressed = entry ? (event?.timeStamp ?? this.#pressed) : null; // kept while a portrait is on its way
    const shown = this.stage.show(entry);
    shown.then((time) => {
      if (time === null || this.feed.current !== entry) return;
      this.#since = time;
      document.body.dataset.ready = entry.id;
      if (this.#pressed) this.throughput.painted(time - this.#pressed);
      this.#pressed = null;
      if (this.stage.wantsOriginal) this.feed.sharpenNext();
    });
    shown.then(() => this.#around()); // the portrait first: the rest of the page follows in the next frame
  }

  /** What stands around the portrait. */
  #around() {
    this.panels.show(this.feed.current);
    this.status.show(this.feed.current);
    this.#showLatest();
  }

  #showLatest() {
    const unsent = new Set(this.outbox.waiting.map((decision) => decision.decision_id));
    this.panels.setLatest(
      this.#history.slice(-STRIP).reverse().map((one) => ({ ...one, unsent: unsent.has(one.decision_id) })),
    );
  }

  #listen() {
    listenToKeys(this);
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-action]");
      if (!button) return;
      this[button.dataset.action](event);
      if (event.detail > 0) button.blur(); // a click leaves no focus behind that Space would press again
    });
    document.getElementById("opacity").addEventListener("input", (event) => {
      this.stage.setOpacity(Number(event.target.value));
    });
    document.getElementById("finish-again").addEventListener("click", () => this.again());
    this.stage.addEventListener("swipe", ({ detail }) => (detail === "right" ? this.accept() : this.reject()));
    this.stage.addEventListener("view", () => {
      const { overlay, opacity } = this.stage;
      localStorage.setItem("phq-look", JSON.stringify({ overlay, opacity }));
      this.status.looks(this.stage);
    });
    this.stage.addEventListener("scale", () => this.status.scale(this.stage));
    this.stage.addEventListener("trouble", ({ detail }) => this.status.toast(detail));
    this.feed.addEventListener("ready", () => {
      if (this.stage.entry !== this.feed.current || this.stage.root.classList.contains("waiting")) {
        if (this.feed.current?.ready) this.#advanceTo();
      }
    });
    this.feed.addEventListener("at-hand", ({ detail }) => this.status.toast(t("at_hand", { count: detail }), 6000));
    this.feed.addEventListener("change", () => {
      if (this.stage.entry !== this.feed.current) this.#advanceTo();
      else this.status.show(this.feed.current);
    });
    for (const outbox of [this.outbox, this.correcting.outbox]) {
      outbox.addEventListener("change", () => {
        const quiet = this.outbox.state === "saved" && !this.outbox.refused.length;
        this.status.saving(quiet ? this.correcting.outbox : this.outbox);
      });
    }
    this.correcting.outbox.addEventListener("delivered", ({ detail }) => this.#forget(detail.refused));
    this.outbox.addEventListener("delivered", ({ detail }) => {
      this.#showLatest();
      this.#forget(detail.refused);
      detail.gold.forEach((answer) => this.status.gold(answer));
      if (detail.batch.some((one) => one.verdict === "undo")) this.feed.reopen().catch(() => {});
    });
    this.channel?.addEventListener("message", ({ data }) => {
      if (data.decisions && data.owner === this.outbox.owner) this.#takeOver(data.decisions);
    });
    let hidden = null;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) hidden = performance.now();
      else if (hidden !== null && this.#since !== null) this.#away += performance.now() - Math.max(hidden, this.#since);
      if (!document.hidden) {
        this.#follow();
        this.feed.fill().catch(() => {});
      }
    });
    addEventListener("pagehide", () => this.feed.leave());
    addEventListener("pageshow", (event) => event.persisted && location.reload());
  }

  #restorePreferences() {
    const kept = (name, otherwise) => JSON.parse(localStorage.getItem(name) ?? "null") ?? otherwise;
    const { order, filter } = kept("phq-queue", { order: "error_probability", filter: {} });
    const asked = new URLSearchParams(location.search).get("order"); // from the command line
    this.filter = filter;
    // Version 1 kept an order, or has one in a bookmark, that has another name now.
    const known = [asked, order].find((name) => this.settings.orders.includes(name));
    this.order = known ?? "error_probability";
    const { overlay, opacity } = kept("phq-look", { overlay: true, opacity: 0.5 });
    this.stage.setOpacity(opacity);
    this.stage.setOverlay(overlay);
    this.status.looks(this.stage);
  }
}

/** Is a decision the same as this one, or of the same batch of the contact sheet? */
function togetherWith(last) {
  const same = (one) => one.client === last.client && Date.parse(one.time) === Date.parse(last.time);
  return last.client?.startsWith(SHEET) ? (one) => Boolean(one) && same(one) : (one) => one === last;
}

async function main() {
  try {
    const me = await get("/api/me"); // first: what is kept without network is kept for this name
    const settings = await get("/api/settings");
    const outbox = await new Outbox(`${me.workspace}/${me.name}`).open();
    const corrections = await correctionOutbox(`${me.workspace}/${me.name}`).open();
    const loop = new Loop({ me, settings, outbox, corrections });
    window.phqReview = {
      // for measurements and tests
      paints: () => loop.throughput.paints,
      ahead: () => loop.feed.ahead,
      waiting: () => outbox.waiting.length + corrections.waiting.length,
      frames: () => loop.correcting.frames,
      written: () => outbox.written,
      recall: (id) => loop.recall(id),
      selected: () => loop.sheet.selected,
    };
    await loop.start();
  } catch (error) {
    if (error instanceof LoginNeeded) {
      location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    document.getElementById("banner").hidden = false;
    document.getElementById("banner-text").textContent = t("cannot_start", { why: error.message });
    setTimeout(() => location.reload(), 4000);
    throw error;
  }
}

main();
