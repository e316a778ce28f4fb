// The stage: the portrait with its mesh, the mask and the original photo, at rest, zoomed, or pixel for pixel.

import { Gestures } from "./gestures.js";
import { meshes } from "./rig_overlay.js";
import { t } from "./texts.js";
import { Viewport } from "./viewport.js";

const LEAST = 400; // pixels: on a lower stage the portrait is cut at the top rather than smaller
const ZOOM = 2.5;
const SHOULDERS = { x: 0.5, y: 0.72 }; // shares of the portrait
const STEP = 0.2; // of the stage, a key
const FLASH = 300; // milliseconds
const SHARPER = 1.05; // times enlarged from which the photo's own pixels are worth having

/** Fires `swipe` (detail: "left" or "right"), `view` when what is seen changed, `scale`, and `trouble`. */
export class Stage extends EventTarget {
  #entry = null;
  #viewports = { crop: new Viewport(), photo: new Viewport() };
  #peeking = false;
  #flashing = null;
  #size = { width: 0, height: 0 }; // of the stage: asking the page for it would have it laid out at every key
  #sharpened = null; // the entry whose photo pixels were asked for

  constructor(root) {
    super();
    this.root = root;
    this.plane = root.querySelector(".plane");
    this.frame = root.querySelector(".frame"); // the crop: in photo view it lies on the photo
    this.photo = root.querySelector(".photo");
    this.mask = root.querySelector(".mask");
    this.view = "crop"; // crop, photo, mask
    this.overlay = true;
    this.opacity = 0.5;
    this.photo.addEventListener("error", () => {
      this.photo.removeAttribute("src");
      if (this.view === "photo") this.choose("crop");
      this.dispatchEvent(new CustomEvent("trouble", { detail: t("no_photo") }));
    });
    new Gestures(this);
    this.#measure();
    new ResizeObserver(() => {
      this.#measure();
      this.#arrange();
    }).observe(root);
  }

  get entry() {
    return this.#entry;
  }

  /** Paint a ready entry now; resolves in the frame after it was painted. Shows a wait sign for others. */
  show(entry) {
    this.#entry = entry;
    this.#sharpened = null;
    this.#viewports.photo.reset();
    this.root.classList.toggle("waiting", Boolean(entry) && !entry.ready);
    this.root.classList.toggle("empty", !entry);
    this.mask.removeAttribute("src");
    this.photo.removeAttribute("src");
    this.#layers();
    this.#arrange();
    return entry?.ready ? painted() : Promise.resolve(null);
  }

  /** Choose what is seen: the same view again goes back to the crop. */
  choose(view) {
    this.view = this.view === view ? "crop" : view;
    this.#viewports.photo.reset();
    this.#changed();
  }

  setOverlay(on) {
    this.overlay = on;
    this.#changed();
  }

  /** Fill, outline or wire. */
  nextMesh() {
    meshes.next();
    this.overlay = true;
    this.#entry?.mesh?.draw(meshes.side);
    this.#changed();
  }

  setOpacity(value) {
    this.opacity = Math.min(1, Math.max(0.1, Math.round(value * 20) / 20));
    this.overlay = true;
    this.#changed();
  }

  /** The overlay is away as long as a key or finger is held. */
  peek(on) {
    if (this.#peeking === on) return;
    this.#peeking = on;
    this.#arrange();
  }

  // ---- how close ------------------------------------------------------------------------------------------

  /** In at a point of the stage (else the shoulders), or back to the whole portrait. */
  toggleZoom(point = null) {
    if (this.zoomed) this.resetZoom();
    else {
      const { left, top, width, height } = this.#viewport.rect(this.#frame());
      const at = point ?? { x: left + SHOULDERS.x * width, y: top + SHOULDERS.y * height };
      this.zoomBy(ZOOM, at);
    }
  }

  /** One photo pixel a device pixel, or back. */
  togglePixels() {
    if (this.view === "photo") this.view = "crop";
    if (this.#viewport.onPixels) this.#viewport.reset();
    else this.#viewport.toPixels(SHOULDERS);
    this.#changed();
  }

  resetZoom() {
    this.#viewport.reset();
    this.#changed();
  }

  zoomBy(factor, { x, y }) {
    this.#viewport.zoomBy(this.#frame(), factor, x, y);
    this.#changed();
  }

  panBy(dx, dy) {
    if (this.#viewport.panBy(this.#frame(), dx, dy)) this.#arrange();
  }

  /** Look further to a side, by a key: `across` and `down` are -1, 0 or 1. */
  step(across, down) {
    const { width, height } = this.#size;
    this.panBy(-across * STEP * width, -down * STEP * height);
  }

  get zoomed() {
    return this.#viewport.moved;
  }

  get onPixels() {
    return this.#viewport.onPixels;
  }

  /** Is the stage lower than the portrait at rest? */
  get overflows() {
    return this.view !== "photo" && this.#side() > this.#size.height;
  }

  /** Device pixels a photo pixel; null without a portrait and in the photo's view. */
  get scale() {
    if (!this.#entry || this.view === "photo") return null;
    return (this.#viewport.rect(this.#frame()).width * devicePixelRatio) / this.#entry.item.window[2];
  }

  /** Is more asked for than the portrait's own pixels have? */
  get wantsOriginal() {
    if (!this.#entry || this.view === "photo" || !this.zoomed) return false;
    return this.onPixels || this.#viewport.rect(this.#frame()).width * devicePixelRatio > SHARPER * this.#entry.item.size;
  }

  /** A short colored frame: what was decided. */
  flash(verdict) {
    clearTimeout(this.#flashing);
    this.root.dataset.flash = verdict;
    this.#flashing = setTimeout(() => delete this.root.dataset.flash, FLASH);
  }

  // ---- arranging ------------------------------------------------------------------------------------------

  get #viewport() {
    return this.#viewports[this.view === "photo" ? "photo" : "crop"];
  }

  #changed() {
    this.#arrange();
    this.dispatchEvent(new Event("view"));
  }

  #layers() {
    const entry = this.#entry;
    const layers = entry?.ready ? [entry.crop, entry.original, entry.overlay] : [];
    this.frame.replaceChildren(...layers.filter(Boolean));
  }

  #arrange() {
    const { item } = this.#entry ?? {};
    const onPhoto = this.view === "photo" && Boolean(item);
    this.root.dataset.view = onPhoto ? "photo" : this.view;
    this.root.classList.toggle("bare", !this.overlay || this.#peeking);
    this.root.classList.toggle("zoomed", this.zoomed || this.overflows);
    this.root.style.setProperty("--opacity", this.opacity);
    if (item && this.view === "mask") source(this.mask, item.images.mask);
    if (onPhoto) this.#arrangePhoto(item);
    else this.#arrangeCrop(item);
    if (this.wantsOriginal) this.#sharpen(this.#entry);
    this.dispatchEvent(new Event("scale"));
  }

  #arrangeCrop(item) {
    let { left, top, width } = this.#viewport.rect(this.#frame());
    const original = this.#entry?.original;
    if (item && original) {
      const [x, y, side] = item.window;
      const scale = width / side;
      const [first, upper] = [Math.max(0, Math.floor(x)), Math.max(0, Math.floor(y))];
      const across = Math.min(item.photo_width, Math.ceil(x + side)) - first;
      const down = Math.min(item.photo_height, Math.ceil(y + side)) - upper;
      const [inLeft, inTop] = [(first - x) * scale, (upper - y) * scale];
      // Photo pixels lie on device pixels, or they would be mixed; the stage itself may begin between two.
      const stage = this.root.getBoundingClientRect();
      const [fromLeft, fromTop] = [stage.left + this.root.clientLeft + inLeft, stage.top + this.root.clientTop + inTop];
      left = snapped(left + fromLeft) - fromLeft;
      top = snapped(top + fromTop) - fromTop;
      place(original, across * scale, down * scale, inLeft, inTop);
    }
    place(this.plane, width, width, left, top);
    place(this.frame, width, width, 0, 0);
    if (!this.zoomed) meshes.side = width * devicePixelRatio; // those that come next are drawn so
    this.#entry?.mesh?.fit(width * devicePixelRatio);
  }

  #arrangePhoto(item) {
    source(this.photo, item.images.photo);
    const [x, y, side] = item.window;
    const box = photoBox(item);
    const { left, top, width, height } = this.#viewport.rect(this.#frame());
    const scale = width / box.width;
    place(this.plane, width, height, left, top);
    place(this.photo, item.photo_width * scale, item.photo_height * scale, -box.left * scale, -box.top * scale);
    place(this.frame, side * scale, side * scale, (x - box.left) * scale, (y - box.top) * scale);
  }

  /** What `Viewport` asks for. */
  #frame() {
    const stage = this.#size;
    const { item } = this.#entry ?? {};
    if (item && this.view === "photo") {
      const { width, height } = photoBox(item);
      const scale = Math.min(stage.width / width, stage.height / height);
      return { stage, rest: { width: width * scale, height: height * scale }, pixels: 1 / (scale * devicePixelRatio) };
    }
    const side = this.#side();
    const pixels = item ? item.window[2] / (devicePixelRatio * side) : 1;
    return { stage, rest: { width: side, height: side }, pixels };
  }

  #measure() {
    this.#size = { width: this.root.clientWidth, height: this.root.clientHeight };
  }

  #side() {
    const { width, height } = this.#size;
    return Math.max(Math.min(width, height), Math.min(width, LEAST));
  }

  #sharpen(entry) {
    if (entry.original || !entry.ready || this.#sharpened === entry) return;
    this.#sharpened = entry;
    entry.sharpen().then(() => {
      if (this.#entry !== entry) return;
      this.#layers();
      this.#arrange();
    });
  }
}

/** Resolves with the time at which the frame that was just arranged has been handed to the screen. */
export function painted() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => {
      const channel = new MessageChannel(); // runs after the frame's style, layout and paint
      channel.port1.onmessage = () => resolve(performance.now());
      channel.port2.postMessage(null);
    });
  });
}

/** Photo and window, which may reach beyond it, in pixels of the photo. */
function photoBox({ window: [x, y, side], photo_width, photo_height }) {
  const [left, top] = [Math.min(0, x), Math.min(0, y)];
  return { left, top, width: Math.max(photo_width, x + side) - left, height: Math.max(photo_height, y + side) - top };
}

function snapped(length) {
  return Math.round(length * devicePixelRatio) / devicePixelRatio;
}

function source(image, path) {
  if (image.getAttribute("src") !== path) image.src = path;
}

function place(element, width, height, left, top) {
  Object.assign(element.style, { width: `${width}px`, height: `${height}px`, left: `${left}px`, top: `${top}px` });
}
