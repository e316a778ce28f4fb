// The tiles of the contact sheet: thumbnails with their meshes, drawn when they come into view.

import { meshes } from "./rig_overlay.js";
import { described } from "./status.js";
import { t } from "./texts.js";

const THUMB = 192; // pixels of a thumbnail
const BLURRED = 1.3; // times wider tiles get the portrait itself
const LINES = 4; // meshes that are asked for at a time
const NEAR = "60%"; // of the list's height: tiles so near to what is seen are drawn

export class SheetTiles extends EventTarget {
  #tiles = new Map(); // id -> Tile
  #seen = new Set(); // ids of what was in view with image and mesh
  #drawing = []; // tiles whose mesh is to be drawn
  #lines = 0; // meshes on their way
  #mode = meshes.mode;

  constructor(list) {
    super();
    this.list = list;
    const tileOf = (element) => this.#tiles.get(element.dataset.id);
    this.near = new IntersectionObserver((seen) => seen.forEach(({ isIntersecting, target }) => isIntersecting && this.#wanted(tileOf(target))), { root: list, rootMargin: `${NEAR} 0px` });
    this.inView = new IntersectionObserver((seen) => {
      for (const { isIntersecting, target } of seen) {
        const tile = tileOf(target);
        if (!tile) continue;
        tile.inView = isIntersecting;
        this.#look(tile);
      }
    }, { root: list, threshold: 0.6 });
    document.addEventListener("visibilitychange", () => this.#tiles.forEach((tile) => this.#look(tile)));
  }

  /** Was it in view, image and mesh? */
  seen(id) {
    return this.#seen.has(id);
  }

  /** The id of the tile that an element belongs to, or undefined. */
  idOf(element) {
    return element.closest?.("[role=option]")?.dataset.id;
  }

  /** {columns, rows} that are in view. */
  get layout() {
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const height = this.list.firstElementChild?.offsetHeight || 1;
    return { columns, rows: Math.max(1, Math.floor(this.list.clientHeight / height)) };
  }

  /** [{entry, selected, cursor}]: what is on the page, in order. */
  show(rows) {
    const wanted = new Set(rows.map(({ entry }) => entry.id));
    for (const [id, tile] of this.#tiles) if (!wanted.has(id)) this.#drop(id, tile);
    let active = "";
    rows.forEach(({ entry, selected, cursor }, index) => {
      const tile = this.#tiles.get(entry.id) ?? this.#made(entry);
      tile.entry = entry;
      if (this.list.children[index] !== tile.element) this.list.insertBefore(tile.element, this.list.children[index] ?? null);
      if (tile.element.getAttribute("aria-selected") !== String(selected)) tile.element.setAttribute("aria-selected", selected);
      if (tile.element.classList.contains("cursor") !== cursor) tile.element.classList.toggle("cursor", cursor);
      if (cursor) active = tile.element.id;
    });
    if (active) this.list.setAttribute("aria-activedescendant", active);
    else this.list.removeAttribute("aria-activedescendant");
  }

  reveal(id) {
    this.#tiles.get(id)?.element.scrollIntoView({ block: "nearest" });
  }

  /** As the stage shows meshes. */
  looks({ overlay, opacity }) {
    this.list.classList.toggle("bare", !overlay);
    this.list.style.setProperty("--opacity", opacity);
    if (this.#mode === meshes.mode) return;
    this.#mode = meshes.mode;
    for (const tile of this.#tiles.values()) if (tile.mesh) this.#queue(tile);
  }

  clear() {
    for (const [id, tile] of this.#tiles) this.#drop(id, tile);
    this.#seen.clear();
    this.list.scrollTop = 0;
  }

  #made(entry) {
    const tile = new Tile(entry, () => this.#look(tile));
    this.#tiles.set(entry.id, tile);
    this.near.observe(tile.element);
    this.inView.observe(tile.element);
    return tile;
  }

  #drop(id, tile) {
    this.near.unobserve(tile.element);
    this.inView.unobserve(tile.element);
    tile.element.remove();
    this.#tiles.delete(id);
  }

  #wanted(tile) {
    if (tile && !tile.asked) this.#queue(tile);
  }

  #queue(tile) {
    tile.begin();
    if (!this.#drawing.includes(tile)) this.#drawing.push(tile);
    if (this.#lines < LINES) this.#draw();
  }

  /** One mesh after another, with room for keys between two: a page of 200 must not hold them up. */
  async #draw() {
    this.#lines += 1;
    while (this.#drawing.length) {
      const tile = this.#drawing.shift();
      if (this.#tiles.get(tile.entry.id) !== tile) continue;
      await tile.draw();
      this.#look(tile);
      await new Promise((done) => setTimeout(done));
    }
    this.#lines -= 1;
  }

  #look(tile) {
    const { id } = tile.entry;
    if (!tile.inView || !tile.complete || document.hidden || this.#seen.has(id)) return;
    this.#seen.add(id);
    this.dispatchEvent(new Event("drawn"));
  }
}

class Tile {
  #image = false;
  #meshDone = false;

  constructor(entry, changed) {
    this.entry = entry;
    this.changed = changed;
    this.asked = false;
    this.inView = false;
    this.mesh = null;
    this.element = document.createElement("li");
    this.element.id = `tile-${entry.id}`;
    this.element.dataset.id = entry.id;
    this.element.setAttribute("role", "option");
    this.element.setAttribute("aria-label", described(entry.item));
    this.image = document.createElement("img");
    this.image.alt = "";
    this.image.draggable = false;
    this.image.decoding = "async";
    this.frame = document.createElement("div");
    this.frame.className = "tile-frame";
    this.frame.append(this.image);
    const text = document.createElement("span");
    text.textContent = t("sheet.tile", { side: described(entry.item).split(" · ")[0], error: entry.item.error_probability.toFixed(2) });
    this.element.append(this.frame, text);
    this.image.addEventListener("load", () => this.#loaded());
    this.image.addEventListener("error", () => this.#otherwise());
  }

  /** Can it be judged: image and mesh, or no mesh that could be had. */
  get complete() {
    return this.#image && this.#meshDone;
  }

  /** Ask for the image. */
  begin() {
    if (this.asked) return;
    this.asked = true;
    const { crop, thumb } = this.entry.item.images;
    this.image.src = this.#side > BLURRED * THUMB ? crop : thumb;
  }

  /** Draw the mesh, or draw it anew. */
  async draw() {
    try {
      if (this.mesh) this.mesh.draw(this.#side);
      else this.mesh = await meshes.of(this.entry.item, this.#side);
      this.#cover(this.mesh?.canvas ?? (await this.#served()));
    } catch {
      // No rig, or no network: the portrait alone is shown, as in the loop.
    }
    this.#meshDone = true;
  }

  get #side() {
    return Math.round((this.frame.clientWidth || THUMB) * devicePixelRatio);
  }

  #cover(mesh) {
    if (mesh.parentNode === this.frame) return;
    this.frame.querySelector(".mesh")?.remove();
    this.frame.append(mesh);
  }

  /** The service's image of the mesh. */
  async #served() {
    const image = new Image();
    image.alt = "";
    image.className = "mesh";
    image.src = this.entry.item.images.overlay;
    await image.decode();
    return image;
  }

  #loaded() {
    this.#image = true;
    this.changed();
  }

  /** Without network: the portrait that the loop holds. */
  #otherwise() {
    if (this.image.src.startsWith("blob:")) return;
    this.entry.decode().then(() => (this.image.src = this.entry.crop.src), () => {});
  }
}
