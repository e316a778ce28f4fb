// Which part of the portrait is seen, and how large. It stays from one portrait to the next until it is reset.

const MOST_ZOOM = 8; // times the size at rest
const MOST_PIXELS = 4; // device pixels a photo pixel, where that is more
const AT_REST = { x: 0.5, y: 1 }; // where the stage is lower than the portrait, the shoulders are seen

/** Lengths are pixels of the page; `frame` is {stage: {width, height}, rest: {width, height}, pixels}:
 *  the stage, the portrait at rest, and how many times that it is at one photo pixel a device pixel. */
export class Viewport {
  #zoom = 1;
  #onPixels = false;
  #middle = AT_REST; // the portrait's point in the middle of the stage, in shares of its sides

  /** Is it away from rest? */
  get moved() {
    return this.#onPixels || this.#zoom !== 1;
  }

  /** One photo pixel a device pixel? */
  get onPixels() {
    return this.#onPixels;
  }

  reset() {
    [this.#zoom, this.#onPixels, this.#middle] = [1, false, AT_REST];
  }

  /** One photo pixel a device pixel, with this point (shares) in the middle unless a part is chosen already. */
  toPixels(point) {
    if (!this.moved) this.#middle = point;
    this.#onPixels = true;
  }

  /** Where the portrait lies on the stage. */
  rect(frame) {
    const { stage, rest } = frame;
    const scale = this.#scale(frame);
    const [width, height] = [rest.width * scale, rest.height * scale];
    const begin = (room, length, middle) =>
      length <= room ? (room - length) / 2 : Math.min(0, Math.max(room / 2 - middle * length, room - length));
    return { left: begin(stage.width, width, this.#middle.x), top: begin(stage.height, height, this.#middle.y), width, height };
  }

  /** Zoom by a factor; the point under (x, y) of the stage stays where it is. */
  zoomBy(frame, factor, x, y) {
    const before = this.rect(frame);
    const now = this.#scale(frame);
    const most = Math.max(MOST_ZOOM, MOST_PIXELS * frame.pixels);
    this.#zoom = Math.min(most, Math.max(Math.min(1, now), now * factor));
    this.#onPixels = false;
    const grown = this.#zoom / now;
    const place = (room, at, begin, length) => (room / 2 - at + (at - begin) * grown) / (length * grown);
    this.#middle = {
      x: place(frame.stage.width, x, before.left, before.width),
      y: place(frame.stage.height, y, before.top, before.height),
    };
    if (Math.abs(this.#zoom - 1) < 0.01) this.reset();
  }

  /** Move what is seen; true if there was something to move. */
  panBy(frame, dx, dy) {
    const { left, top, width, height } = this.rect(frame);
    const { stage } = frame;
    const clamped = (begin, room, length) => Math.min(0, Math.max(begin, room - length));
    if (width > stage.width) this.#middle = { ...this.#middle, x: (stage.width / 2 - clamped(left + dx, stage.width, width)) / width };
    if (height > stage.height) this.#middle = { ...this.#middle, y: (stage.height / 2 - clamped(top + dy, stage.height, height)) / height };
    return width > stage.width || height > stage.height;
  }

  #scale({ pixels }) {
    return this.#onPixels ? pixels : this.#zoom;
  }
}
