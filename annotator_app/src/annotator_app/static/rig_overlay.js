// The meshes of the loop: drawn by the page ahead of time, sharp at any size. Where the browser has no WebGL 2,
// and for a portrait whose rig cannot be had, the service's images are shown.

import { get } from "./api.js";
import { loadRig } from "./rig_file.js";
import { MODES, RigPainter } from "./rig_gl.js";

const KEPT = "phq-mesh-mode";
const LATER = 90; // milliseconds: a mesh that is not sharp is drawn again when the portrait has been painted
const MOST = 2048; // pixels a side
const NEAR = 1.03; // times too coarse or too fine that nobody sees

/** One for the page: the painter, and how meshes are drawn. */
class Meshes {
  #painter; // undefined: not tried yet; null: there is no WebGL
  #rig = null;

  constructor() {
    this.side = 512; // pixels of a portrait on the stage
    this.mode = "fill";
    try {
      const kept = localStorage.getItem(KEPT);
      if (MODES.includes(kept)) this.mode = kept;
    } catch {
      // Switched off.
    }
  }

  /** Does this page draw meshes itself? */
  get here() {
    if (this.#painter === undefined || this.#painter?.lost) {
      this.#rig = null;
      try {
        this.#painter = new RigPainter(new OffscreenCanvas(16, 16));
      } catch {
        this.#painter = null;
      }
    }
    return this.#painter !== null;
  }

  /** Fill, outline, wire, fill ... */
  next() {
    this.mode = MODES[(MODES.indexOf(this.mode) + 1) % MODES.length];
    try {
      localStorage.setItem(KEPT, this.mode);
    } catch {
      // It lasts as long as the page.
    }
    return this.mode;
  }

  /** A mesh to draw; null when the service's image is to be shown instead. */
  async of(item, side = this.side) {
    if (!this.here) return null;
    const [{ label }, rig] = await Promise.all([get(`/api/portraits/${item.portrait_id}/camera`), loadRig(item.rig_version)]);
    return new Mesh(label, rig, side);
  }

  /** The drawn mesh as an ImageBitmap. */
  paint({ label, rig }, side) {
    if (this.#rig !== rig) this.#painter.setRig(rig);
    this.#rig = rig;
    this.#painter.clear(side, side);
    this.#painter.draw(label, label.window, [0, 0, side, side], { mode: this.mode, scale: devicePixelRatio });
    return this.#painter.canvas.transferToImageBitmap();
  }
}

export const meshes = new Meshes();

/** The mesh of one portrait on a canvas of its own. */
class Mesh {
  #drawn = ""; // mode and size
  #timer = null;

  constructor(label, rig, side) {
    this.label = label;
    this.rig = rig;
    this.canvas = document.createElement("canvas");
    this.draw(side);
  }

  /** Draw now, `side` pixels wide. */
  draw(side) {
    if (!meshes.here) return;
    const size = Math.max(16, Math.min(MOST, Math.round(side)));
    const bitmap = meshes.paint(this, size);
    this.canvas.width = this.canvas.height = size;
    this.canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
    this.canvas.className = `mesh ${meshes.mode}`;
    this.#drawn = `${meshes.mode} ${size}`;
    this.side = size;
  }

  /** It is shown `side` pixels wide: draw it again, a little later, where it is not sharp. */
  fit(side) {
    clearTimeout(this.#timer);
    const wanted = Math.min(MOST, side);
    const sharp = this.side / wanted < NEAR && wanted / this.side < NEAR;
    if (sharp && this.#drawn.startsWith(meshes.mode)) return;
    this.#timer = setTimeout(() => this.draw(side), LATER);
  }
}
