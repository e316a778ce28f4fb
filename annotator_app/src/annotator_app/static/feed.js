// The feed: portraits leased from the queue, their images fetched ahead and the next ones decoded ahead,
// so that the next portrait is painted in the frame after the key.

import { Unreachable, get, imageBytes, post } from "./api.js";
import { meshes } from "./rig_overlay.js";

const DECODED = 8; // portraits ready to paint
const LINES = 4; // images fetched at a time
const MOST = 64; // portraits held: a minute without network at one a second
const LEAST = 12;
const KEPT = 24; // decided ones whose images stay for undo
const PAST = 500; // decided ones that come back without asking the service
const ASKED = 100; // portraits asked for at a time, at most

/** One portrait on its way: its data, and its images as soon as they are there. */
export class Entry {
  #fetched = null;
  #decoded = null;
  #sharpened = null;
  #urls = [];

  constructor(item) {
    this.item = item;
    this.id = item.portrait_id;
    this.leased = performance.now();
    this.here = false; // the bytes of both images are in this page
    this.ready = false; // both images can be painted at once
    this.crop = null; // HTMLImageElement
    this.overlay = null; // HTMLImageElement or canvas, or null when there is no mesh to show
    this.mesh = null; // what is drawn on that canvas
    this.original = null; // HTMLImageElement: the photo's own pixels, once somebody looked closer
    this.blurred = ""; // why there is no `original`
  }

  /** Bring the bytes here. */
  fetch() {
    this.#fetched ??= Promise.all([
      imageBytes(this.item.images.crop),
      this.#mesh().catch((error) => {
        if (error instanceof Unreachable && !error.busy) throw error;
        return null; // no rig, or a mesh that cannot be drawn: the portrait alone is shown
      }),
    ]).then(
      (images) => {
        this.here = true;
        return images;
      },
      (error) => {
        this.#fetched = null;
        throw error;
      },
    );
    return this.#fetched;
  }

  /** Have both images decoded. */
  decode() {
    this.#decoded ??= this.fetch()
      .then(async ([crop, overlay]) => {
        this.crop = await this.#image(crop, "portrait");
        if (overlay instanceof Blob) this.overlay = await this.#image(overlay, "mesh").catch(() => null);
        else [this.mesh, this.overlay] = [overlay, overlay?.canvas ?? null];
        this.ready = true;
      })
      .catch((error) => {
        this.#decoded = null;
        throw error;
      });
    return this.#decoded;
  }

  /** Have the photo's own pixels, where the photo is there. */
  sharpen() {
    this.#sharpened ??= imageBytes(this.item.images.original)
      .then((bytes) => this.#image(bytes, "original"))
      .then(
        (image) => (this.original = image),
        (error) => {
          this.blurred = error.message;
          if (error instanceof Unreachable) this.#sharpened = null; // it may come yet
        },
      );
    return this.#sharpened;
  }

  /** Fetch everything once more, from the browser's own cache: somebody keeps it for a reload without network. */
  askAgain() {
    if (!this.here) return;
    const { crop, overlay, thumb } = this.item.images;
    imageBytes(crop).catch(() => {});
    imageBytes(thumb).catch(() => {});
    const label = meshes.here ? [`/api/portraits/${this.id}/camera`, `/api/rig/${this.item.rig_version}`] : [overlay];
    label.forEach((path) => imageBytes(path).catch(() => {}));
  }

  /** Give the memory back. */
  close() {
    this.#urls.forEach((url) => URL.revokeObjectURL(url));
    this.#urls = [];
    this.ready = this.here = this.fetching = false;
    this.#fetched = this.#decoded = this.#sharpened = this.crop = this.overlay = this.mesh = this.original = null;
  }

  /** A mesh that this page draws, or the bytes of the service's image. */
  async #mesh() {
    const drawn = await meshes.of(this.item).catch((error) => {
      if (error instanceof Unreachable && !error.busy) throw error;
      return null;
    });
    return drawn ?? imageBytes(this.item.images.overlay);
  }

  async #image(blob, name) {
    const url = URL.createObjectURL(blob);
    this.#urls.push(url);
    const image = new Image();
    image.decoding = "sync";
    image.draggable = false;
    image.alt = "";
    image.className = name;
    image.src = url;
    await image.decode();
    return image;
  }
}

/** What comes next. `decided` tells ids that must not come again (they wait in the outbox). */
export class Feed extends EventTarget {
  #entries = [];
  #past = [];
  #asking = null;
  #fetching = 0;
  #retry = null;
  #least = 0; // portraits that the contact sheet wants here

  constructor(decided, atHand) {
    super();
    this.decided = decided;
    this.atHand = atHand; // keeps what is held across a reload without network
    this.order = "error_probability";
    this.filter = {};
    this.remaining = null; // portraits of this queue, those held here included
    this.total = null; // portraits of this queue, decided or not
    this.ended = false;
    this.error = null;
    this.lease = 600; // seconds
  }

  get held() {
    return this.#entries.length;
  }

  get entries() {
    return [...this.#entries];
  }

  /** How many can be judged without network. */
  get ahead() {
    return this.#entries.filter((entry) => entry.here).length;
  }

  /** The portrait to judge, or undefined. */
  get current() {
    return this.#entries[0];
  }

  /** Begin with another order or filter; what was held goes back to the queue. */
  async restart({ order, filter }) {
    const back = this.#entries.map((entry) => entry.id);
    this.#entries.forEach((entry) => entry.close());
    this.#entries = [];
    this.order = order;
    this.filter = filter;
    this.remaining = this.total = null;
    this.ended = false;
    await this.#asking?.catch(() => {});
    if (back.length) await this.release(back).catch(() => {});
    await this.fill();
  }

  /** These portraits (else the current one) are decided: on to the next. */
  advance(done = this.#entries.slice(0, 1)) {
    this.#entries = this.#entries.filter((entry) => !done.includes(entry));
    this.#past.push(...done);
    this.atHand.pass(...done.map((entry) => entry.id));
    this.#past.slice(-KEPT - done.length, -KEPT).forEach((entry) => entry.close());
    this.#past = this.#past.slice(-PAST);
    if (this.remaining) this.remaining = Math.max(0, this.remaining - done.length);
    this.fill();
  }

  /** Have `count` portraits here, for the contact sheet; 0: what the loop needs, and the others go back. */
  async hold(count) {
    this.#least = count;
    const back = count ? [] : this.#entries.splice(MOST);
    back.forEach((entry) => entry.close());
    if (back.length) this.release(back.map((entry) => entry.id)).catch(() => {}); // else the leases run out
    await this.#asking;
    await this.fill();
  }

  /** Have the photo's own pixels of the next portrait: somebody looks closely at one after another. */
  sharpenNext() {
    this.#entries[1]?.sharpen();
  }

  /** Ask anew: what had ended may have more (undone portraits are asked again). */
  reopen() {
    this.ended = false;
    return this.fill();
  }

  /** Show a portrait again, before everything else. Works without network for the latest ones. */
  async recall(id, own) {
    const entry = await this.#again(id, own);
    this.putFirst(entry);
    return entry;
  }

  /** Several, in this order: {id: own}. Those that cannot be had are left out; throws when that is all of them. */
  async recallAll(owns) {
    const found = await Promise.allSettled(Object.entries(owns).map(([id, own]) => this.#again(id, own)));
    const entries = found.filter((one) => one.value).map((one) => one.value);
    if (!entries.length) throw found[0].reason;
    this.putFirst(...entries);
  }

  async #again(id, own) {
    const kept = this.#past.findIndex((entry) => entry.id === id);
    // The service may not have the latest decision or undo yet: `own` is the verdict that stands for us.
    const known = (item) => (own === undefined ? item : { ...item, own_verdict: own });
    if (kept < 0) return new Entry(known(await get(`/api/items/${id}`)));
    const [entry] = this.#past.splice(kept, 1);
    entry.item = known(entry.item);
    get(`/api/items/${id}`).then((item) => (entry.item = known(item)), () => {});
    return entry;
  }

  putFirst(...entries) {
    const ids = new Set(entries.map((entry) => entry.id));
    const others = this.#entries.filter((entry) => !ids.has(entry.id));
    const fresh = others.length + entries.length - this.#entries.length;
    this.#entries = [...entries, ...others];
    if (this.remaining !== null) this.remaining += fresh;
    this.#prepare();
  }

  /** These portraits (else the current one) to the end of what is held. */
  skip(skipped = this.#entries.slice(0, 1)) {
    this.#entries = [...this.#entries.filter((entry) => !skipped.includes(entry)), ...skipped];
    this.fill();
  }

  /** Somebody (another page of this reviewer) decided these; the current one stays. */
  forget(ids) {
    this.#entries = this.#entries.filter((entry) => entry === this.current || !ids.includes(entry.id));
    this.dispatchEvent(new Event("change"));
  }

  release(ids, options) {
    return post("/api/queue/release", { portrait_ids: ids }, options);
  }

  /** Everything held goes back (the page is closing). */
  leave() {
    const ids = this.#entries.map((entry) => entry.id);
    if (ids.length) this.release(ids, { leaving: true }).catch(() => {});
  }

  /** Ask for more when little is left, and prepare what is held. */
  async fill() {
    this.#renew();
    this.#prepare();
    const share = this.remaining === null ? LEAST : Math.min(MOST, Math.max(LEAST, Math.ceil(this.remaining / 4)));
    const want = this.#least || share;
    if (this.#asking || this.ended || this.#entries.length > want * 0.75) return this.#asking;
    this.#asking = this.#ask(want - this.#entries.length);
    try {
      await this.#asking;
    } finally {
      this.#asking = null;
      this.dispatchEvent(new Event("change"));
    }
    if (this.#entries.length < want * 0.5 && !this.ended && !this.error) return this.fill();
    return undefined;
  }

  async #ask(count) {
    clearTimeout(this.#retry);
    const exclude = [...new Set([...this.#entries.map((entry) => entry.id), ...this.decided()])].slice(0, 1000);
    const { order, filter } = this;
    const asked = performance.now();
    try {
      const answer = await post("/api/queue/next", { count: Math.min(ASKED, count), order, filter, exclude, meshes: !meshes.here });
      if (order !== this.order || filter !== this.filter) return; // somebody chose another queue meanwhile
      for (const entry of this.#entries) {
        // The service prolongs the leases of what is excluded, as long as they have not run out.
        if (exclude.includes(entry.id) && asked - entry.leased < this.lease * 1000) entry.leased = Math.max(entry.leased, asked);
      }
      const held = new Set(this.#entries.map((entry) => entry.id));
      const fresh = answer.items.filter((item) => !held.has(item.portrait_id));
      this.#entries.push(...fresh.map((item) => new Entry(item)));
      // What is held, and what was neither held nor decided here: right whether decisions have arrived or not.
      this.remaining = answer.remaining - answer.excluded + this.#entries.length - fresh.length;
      this.total = Math.max(answer.total, this.remaining);
      this.lease = answer.lease_seconds ?? this.lease;
      this.ended = fresh.length === 0;
      this.error = null;
      this.#keep();
    } catch (error) {
      this.error = error;
      if (error instanceof Unreachable && this.remaining === null) await this.#restore();
      this.#retry = setTimeout(() => this.fill().catch(() => {}), 3000);
    }
    this.#prepare();
  }

  #keep() {
    const { order, filter, remaining, total } = this;
    const items = this.#entries.map((entry) => entry.item);
    this.atHand.keep({ order, filter, remaining, total, items });
  }

  /** No network at the start: go on with what an earlier page held of this queue. */
  async #restore() {
    const held = await this.atHand.held();
    if (!held || held.order !== this.order || JSON.stringify(held.filter) !== JSON.stringify(this.filter)) return;
    const decided = new Set(this.decided());
    const fresh = held.items.filter((item) => !decided.has(item.portrait_id));
    this.#entries.push(...fresh.map((item) => new Entry(item)));
    this.remaining = Math.max(fresh.length, held.remaining - (held.items.length - fresh.length));
    this.total = held.total;
    if (fresh.length) this.dispatchEvent(new CustomEvent("at-hand", { detail: fresh.length }));
  }

  /** Leases run out: what was held too long without being looked at is asked for anew. */
  #renew() {
    const limit = performance.now() - this.lease * 800;
    const [first, ...rest] = this.#entries;
    const stale = rest.filter((entry) => entry.leased < limit);
    if (!stale.length) return;
    stale.forEach((entry) => entry.close());
    this.#entries = [first, ...rest.filter((entry) => entry.leased >= limit)];
    this.ended = false;
  }

  #prepare() {
    this.#entries.slice(0, DECODED).forEach((entry) => {
      if (!entry.ready) entry.decode().then(() => this.dispatchEvent(new Event("ready")), () => this.#later());
    });
    for (const entry of this.#entries.slice(0, MOST)) {
      if (this.#fetching >= LINES) break;
      if (entry.fetching) continue;
      entry.fetching = true;
      this.#fetching += 1;
      const here = entry.fetch().then(() => true, () => false);
      here.then((fetched) => {
        this.#fetching -= 1;
        if (fetched) this.#prepare();
        else {
          entry.fetching = false;
          this.#later();
        }
      });
    }
  }

  #later() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.fill().catch(() => {}), 2000);
    this.dispatchEvent(new Event("change"));
  }
}
