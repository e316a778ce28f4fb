// The feed: portraits leased from the queue, their images fetched ahead and the next ones decoded ahead,
// so that the next portrait is painted in the frame after the key.

import { Unreachable, get, imageBytes, post } from "./api.js";
import { meshes } from "./rig_overlay.js";

const DECODED = 8; // portraits ready to paint
const LINES = 4; // images fetched at a time
const MOST = 64; // portraits held: a minute without network at one a second
const LEAST = 12;
const KEPT = 24; // decided ones whose images stay for undo

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
    this.ready = this.here = false;
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

  /** The current portrait is decided (or skipped): on to the next. */
  advance() {
    const done = this.#entries.shift();
    if (done) {
      this.#past.push(done);
      this.atHand.pass(done.id);
      while (this.#past.length > KEPT) this.#past.shift().close();
      if (this.remaining) this.remaining -= 1;
    }
    this.fill();
    return done;
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
    const kept = this.#past.findIndex((entry) => entry.id === id);
    let entry = kept >= 0 ? this.#past.splice(kept, 1)[0] : null;
    // The service may not have the latest decision or undo yet: `own` is the verdict that stands for us.
    const known = (item) => (own === undefined ? item : { ...item, own_verdict: own });
    if (entry) {
      entry.item = known(entry.item);
      get(`/api/items/${id}`).then((item) => (entry.item = known(item)), () => {});
    } else entry = new Entry(known(await get(`/api/items/${id}`)));
    this.putFirst(entry);
    return entry;
  }

  putFirst(entry) {
    this.#entries = [entry, ...this.#entries.filter((other) => other.id !== entry.id)];
    if (this.remaining !== null) this.remaining += 1;
    this.#prepare();
  }

  /** The current portrait to the end of what is held. */
  skip() {
    const skipped = this.#entries.shift();
    if (skipped) this.#entries.push(skipped);
    this.fill();
    return skipped;
  }

  /** Somebody (another page of this reviewer) decided it. */
  forget(id) {
    if (this.current?.id === id) return;
    this.#entries = this.#entries.filter((entry) => entry.id !== id);
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
    const want = this.remaining === null ? LEAST : Math.min(MOST, Math.max(LEAST, Math.ceil(this.remaining / 4)));
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
    try {
      const answer = await post("/api/queue/next", { count, order, filter, exclude, meshes: !meshes.here });
      if (order !== this.order || filter !== this.filter) return; // somebody chose another queue meanwhile
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
      if (!entry.ready) entry.decode().then(() => this.dispatchEvent(new Event("ready")), () => this.#again());
    });
    for (const entry of this.#entries) {
      if (this.#fetching >= LINES) break;
      if (entry.fetching) continue;
      entry.fetching = true;
      this.#fetching += 1;
      entry
        .fetch()
        .catch(() => {
          entry.fetching = false;
          this.#again();
        })
        .finally(() => {
          this.#fetching -= 1;
          if (entry.fetching) this.#prepare();
        });
    }
  }

  #again() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.fill().catch(() => {}), 2000);
    this.dispatchEvent(new Event("change"));
  }
}
