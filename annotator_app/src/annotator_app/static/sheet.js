// The contact sheet: the next portraits side by side, to select several and decide them by one key.
//
// A page of it stays as it is until all of it is decided: nothing comes under a hand that is about to accept the
// rest. Only what was in view, with its mesh, can be selected. With nothing selected, a key means the portrait at
// the cursor.

import { actionOf, placeOf } from "./keys.js";
import { SheetTiles } from "./sheet_tiles.js";
import { t } from "./texts.js";

const KEPT = "phq-sheet"; // how many portraits a page has
const COUNTS = [24, 48, 96, 200];
const MOST_HELD = 256;
const MODIFIERS = ["Shift", "Control", "Alt", "Meta"];
/** Keys of a grid, as everywhere; all others are the loop's own, by the choice of this browser. */
const MOVES = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: "up", ArrowDown: "down", PageUp: "pageUp", PageDown: "pageDown", Home: "first", End: "last" };

export class Sheet {
  #page = []; // entries of the feed, in order
  #selected = new Set(); // ids
  #before = new Set(); // what was selected when a range began
  #anchor = 0;
  #cursor = 0;
  #begun = false; // something of this page was decided
  #since = 0;
  #over = null; // AbortController while open

  constructor(loop) {
    this.loop = loop;
    this.root = document.getElementById("sheet");
    this.at = (name) => document.getElementById(`sheet-${name}`);
    this.tiles = new SheetTiles(this.at("tiles"));
    this.tiles.addEventListener("drawn", () => this.#tell());
    this.at("size").append(...COUNTS.map((count) => new Option(t("sheet.portraits", { count }), count)));
    this.at("size").value = COUNTS.includes(Number(localStorage.getItem(KEPT))) ? localStorage.getItem(KEPT) : COUNTS[1];
    this.at("size").addEventListener("change", () => {
      localStorage.setItem(KEPT, this.at("size").value);
      this.#turn();
      this.tiles.list.focus();
    });
    this.root.addEventListener("click", (event) => this.#click(event));
    this.tiles.list.addEventListener("dblclick", (event) => this.tiles.idOf(event.target) && this.show());
    loop.feed.addEventListener("change", () => this.refresh());
    loop.stage.addEventListener("view", () => this.tiles.looks(loop.stage));
  }

  get open() {
    return this.#over !== null;
  }

  /** Ids that are selected, for tests. */
  get selected() {
    return [...this.#selected];
  }

  enter() {
    if (this.open) return;
    this.#over = new AbortController();
    // Before the loop's own listener, which would decide the portrait behind the sheet.
    addEventListener("keydown", (event) => this.#key(event), { capture: true, signal: this.#over.signal });
    document.body.classList.add("sheeting");
    this.root.hidden = false;
    this.tiles.looks(this.loop.stage);
    this.#turn();
    this.tiles.list.focus({ preventScroll: true });
  }

  /** Back to the loop. */
  leave() {
    if (!this.open) return;
    this.#over.abort();
    this.#over = null;
    document.body.classList.remove("sheeting");
    this.root.hidden = true;
    this.#page = [];
    this.#selected.clear();
    this.tiles.clear();
    this.loop.feed.hold(0);
    this.loop.shown();
  }

  /** The portrait at the cursor in the loop. */
  show() {
    const entry = this.#page[this.#cursor];
    if (!entry) return;
    this.loop.feed.putFirst(entry);
    this.leave();
  }

  /** What the feed holds has changed. */
  refresh() {
    if (!this.open) return;
    const { entries } = this.loop.feed;
    const held = new Map(entries.map((entry) => [entry.id, entry]));
    // A lease that ran out and came again is another entry of the same portrait.
    this.#page = this.#page.map(({ id }) => held.get(id)).filter(Boolean);
    if (!this.#page.length) this.#begun = false;
    if (!this.#begun) {
      const here = new Set(this.#page.map(({ id }) => id));
      const more = entries.filter(({ id }) => !here.has(id));
      this.#page.push(...more.slice(0, Math.max(0, this.#count - this.#page.length)));
    }
    const here = new Set(this.#page.map(({ id }) => id));
    this.#selected = new Set([...this.#selected].filter((id) => here.has(id)));
    this.#cursor = Math.max(0, Math.min(this.#cursor, this.#page.length - 1));
    this.#draw();
  }

  // ---- deciding -------------------------------------------------------------------------------------------

  accept() {
    this.#decide("accept", {}, this.#chosen());
  }

  async reject() {
    const chosen = this.#chosen();
    if (!chosen.length) return;
    const answer = await this.loop.askReason();
    if (answer) this.#decide("reject", answer, chosen);
  }

  async flag() {
    const chosen = this.#chosen();
    if (!chosen.length) return;
    const note = await this.loop.dialogs.note();
    if (note !== null) this.#decide("flag", { note }, chosen);
  }

  skip() {
    const chosen = this.#chosen();
    if (!chosen.length) return;
    const gone = new Set(chosen);
    this.#page = this.#page.filter((entry) => !gone.has(entry)); // first: the feed tells that it has changed
    this.#begun = true;
    this.#selected.clear();
    this.loop.feed.skip(chosen);
    this.#onwards();
  }

  /** What the loop undoes: the last batch as a whole, which is selected again. */
  async undo() {
    const undone = new Set(await this.loop.undo());
    if (!undone.size || !this.open) return;
    const back = this.loop.feed.entries.filter(({ id }) => undone.has(id));
    this.#page = [...back, ...this.#page.filter(({ id }) => !undone.has(id))];
    this.#selected = new Set(back.map(({ id }) => id).filter((id) => this.tiles.seen(id)));
    this.#cursor = this.#anchor = 0;
    this.#since = performance.now();
    this.#draw();
  }

  all() {
    this.#select(this.#page, true);
    this.#begin();
  }

  none() {
    this.#selected.clear();
    this.#begin();
    this.#draw();
  }

  /** What a key means: the selected portraits, else the one at the cursor when it has been seen. */
  #chosen() {
    const selected = this.#page.filter(({ id }) => this.#selected.has(id));
    if (selected.length) return selected;
    const entry = this.#page[this.#cursor];
    if (entry && this.tiles.seen(entry.id)) return [entry];
    if (entry) this.loop.status.toast(t("loading"));
    return [];
  }

  #decide(verdict, answer, chosen) {
    // A reason takes a while: meanwhile somebody may have decided, or a lease has come anew, as another entry.
    const held = new Map(this.loop.feed.entries.map((entry) => [entry.id, entry]));
    const entries = chosen.map(({ id }) => held.get(id)).filter(Boolean);
    if (!entries.length) return;
    const gone = new Set(entries);
    this.#page = this.#page.filter((entry) => !gone.has(entry)); // first: the feed tells that it has changed
    this.#begun = true;
    this.#selected.clear();
    this.loop.decideAll(entries, verdict, answer, (performance.now() - this.#since) / 1000);
    this.#onwards();
    const told = t(entries.length === 1 ? "sheet.told_one" : "sheet.told", { count: entries.length, verdict: t(`past.${verdict}`) });
    this.loop.status.toast(told);
    this.loop.status.say(told);
  }

  /** Portraits have left the page. */
  #onwards() {
    this.#since = performance.now();
    this.#begin();
    this.refresh();
  }

  // ---- selecting ------------------------------------------------------------------------------------------

  #select(entries, on) {
    const seen = entries.filter(({ id }) => this.tiles.seen(id));
    for (const { id } of seen) {
      if (on) this.#selected.add(id);
      else this.#selected.delete(id);
    }
    const unseen = entries.length - seen.length;
    if (on && unseen) this.loop.status.toast(t(unseen === 1 ? "sheet.unseen_one" : "sheet.unseen", { count: unseen }), 5000);
    this.#draw();
  }

  #toggle(index) {
    const entry = this.#page[index];
    if (!entry) return;
    this.#cursor = index;
    this.#select([entry], !this.#selected.has(entry.id));
    this.#begin();
  }

  /** From where the range began to here. */
  #range(index) {
    this.#cursor = index;
    this.#selected = new Set(this.#before);
    const [first, last] = [Math.min(this.#anchor, index), Math.max(this.#anchor, index)];
    this.#select(this.#page.slice(first, last + 1), true);
  }

  /** A range begins at the cursor. */
  #begin() {
    this.#anchor = this.#cursor;
    this.#before = new Set(this.#selected);
  }

  #move(where, extend) {
    const { columns, rows } = this.tiles.layout;
    const last = this.#page.length - 1;
    const by = { up: -columns, down: columns, pageUp: -columns * rows, pageDown: columns * rows, first: -Infinity, last: Infinity }[where] ?? where;
    const wanted = this.#cursor + by;
    // Up and down stay in their column; at the edges the cursor stays where it is.
    if ((where === "up" || where === "down") && (wanted < 0 || wanted > last)) return;
    const index = Math.max(0, Math.min(last, wanted));
    if (extend) this.#range(index);
    else {
      this.#cursor = index;
      this.#begin();
      this.#draw();
    }
    this.tiles.reveal(this.#page[index]?.id);
  }

  // ---- listening ------------------------------------------------------------------------------------------

  #key(event) {
    if (event.altKey || event.isComposing || MODIFIERS.includes(event.key) || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("select")) return;
    const key = placeOf(event);
    if (key === "Tab" || (["Space", "Enter"].includes(key) && event.target.closest?.("button, a"))) return;
    event.stopPropagation(); // the loop behind the sheet gets no key
    const act = this.#meaning(event, key);
    if (!act) return;
    event.preventDefault();
    act();
  }

  #meaning(event, key) {
    const command = event.ctrlKey || event.metaKey;
    if (command && key === "KeyA") return () => (event.shiftKey ? this.none() : this.all());
    if (!command && key in MOVES) return () => this.#move(MOVES[key], event.shiftKey);
    if (event.repeat) return null;
    if (key === "Space") return () => (event.shiftKey ? this.#range(this.#cursor) : this.#toggle(this.#cursor));
    if (key === "Enter") return () => this.show();
    if (key === "Escape") return () => this.leave();
    return this.#action(actionOf(event));
  }

  #action(name) {
    if (["accept", "reject", "flag", "skip", "undo", "all", "show", "leave"].includes(name)) return () => this[name]();
    if (name === "openSheet") return () => this.leave();
    const loops = ["toggleOverlay", "meshMode", "fainter", "stronger", "choose", "help"];
    return loops.includes(name) ? () => this.loop[name]() : null;
  }

  #click(event) {
    const button = event.target.closest("[data-sheet]");
    if (button) {
      this.#action(button.dataset.sheet)?.();
      if (event.detail > 0) this.tiles.list.focus({ preventScroll: true });
      return;
    }
    const index = this.#page.findIndex(({ id }) => id === this.tiles.idOf(event.target));
    if (index < 0) return;
    if (event.shiftKey) this.#range(index);
    else this.#toggle(index);
  }

  // ---- showing --------------------------------------------------------------------------------------------

  get #count() {
    return Number(this.at("size").value);
  }

  /** A new page. */
  #turn() {
    this.#page = [];
    this.#begun = false;
    this.#cursor = this.#anchor = 0;
    this.#selected.clear();
    this.#before.clear();
    this.#since = performance.now();
    this.loop.feed.hold(Math.min(MOST_HELD, 2 * this.#count)).catch(() => {}); // the next page, too
    this.refresh();
  }

  #draw() {
    this.tiles.show(this.#page.map((entry, index) => ({ entry, selected: this.#selected.has(entry.id), cursor: index === this.#cursor })));
    this.#tell();
  }

  #tell() {
    const { feed } = this.loop;
    const count = this.#selected.size;
    const seen = this.#page.filter(({ id }) => this.tiles.seen(id)).length;
    const told = count ? t("sheet.selected", { count, of: this.#page.length }) : t("sheet.seen", { count: seen, of: this.#page.length });
    if (this.at("told").textContent !== told) this.at("told").textContent = told;
    this.at("empty").hidden = this.#page.length > 0;
    this.at("empty").textContent = this.#page.length ? "" : t(feed.error ? "queue_away" : feed.ended ? "nothing_left" : "loading");
  }
}
