// The stage: the portrait with its mesh, the mask and the original photo, zoom, and touch gestures.

const HOLD = 280; // milliseconds until a press is a hold
const SWIPE = 70; // pixels until a swipe is a decision
const ZOOM = 2.5;
const MOST_ZOOM = 8;

/** Fires `swipe` (detail: "left" or "right"), `peek` (detail: boolean) and `view`. */
export class Stage extends EventTarget {
  #entry = null;
  #zoom = { scale: 1, x: 0, y: 0 };
  #peeking = false;
  #pointers = new Map();
  #gesture = null;

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
      this.dispatchEvent(new CustomEvent("trouble", { detail: "The original photo is not available" }));
    });
    this.#listen();
  }

  get entry() {
    return this.#entry;
  }

  /** Paint a ready entry now; resolves in the frame after it was painted. Shows a wait sign for others. */
  show(entry) {
    this.#entry = entry;
    this.#reset();
    this.root.classList.toggle("waiting", Boolean(entry) && !entry.ready);
    this.root.classList.toggle("empty", !entry);
    this.mask.removeAttribute("src");
    this.photo.removeAttribute("src");
    this.frame.replaceChildren(...(entry?.ready ? [entry.crop, ...(entry.overlay ? [entry.overlay] : [])] : []));
    this.#arrange();
    return entry?.ready ? painted() : Promise.resolve(null);
  }

  /** Choose what is seen: the same view again goes back to the crop. */
  choose(view) {
    this.view = this.view === view ? "crop" : view;
    this.#reset();
    this.#arrange();
    this.dispatchEvent(new Event("view"));
  }

  setOverlay(on) {
    this.overlay = on;
    this.#arrange();
    this.dispatchEvent(new Event("view"));
  }

  setOpacity(value) {
    this.opacity = Math.min(1, Math.max(0.1, Math.round(value * 20) / 20));
    if (!this.overlay) this.overlay = true;
    this.#arrange();
    this.dispatchEvent(new Event("view"));
  }

  /** The overlay is away as long as a key or finger is held. */
  peek(on) {
    if (this.#peeking === on) return;
    this.#peeking = on;
    this.#arrange();
  }

  /** In at the shoulders, or out again. */
  toggleZoom(x = 0.5, y = 0.72) {
    if (this.#zoom.scale > 1) this.#reset();
    else this.#zoomAt(ZOOM, x * this.root.clientWidth, y * this.root.clientHeight);
    this.dispatchEvent(new Event("view"));
  }

  get zoomed() {
    return this.#zoom.scale > 1;
  }

  /** A short colored frame: what was decided. */
  flash(verdict) {
    this.root.dataset.flash = "";
    void this.root.offsetWidth; // restarts the animation
    this.root.dataset.flash = verdict;
  }

  #arrange() {
    const { item } = this.#entry ?? {};
    const onPhoto = this.view === "photo" && Boolean(item);
    this.root.dataset.view = onPhoto ? "photo" : this.view;
    this.root.classList.toggle("bare", !this.overlay || this.#peeking);
    this.root.style.setProperty("--opacity", this.opacity);
    if (item && this.view === "mask") this.#source(this.mask, item.images.mask);
    if (onPhoto) {
      this.#source(this.photo, item.images.photo);
      const [x, y, side] = item.window;
      const { photo_width: width, photo_height: height } = item;
      // The box may reach beyond the photo: both are fitted.
      const [left, top] = [Math.min(0, x), Math.min(0, y)];
      const [across, down] = [Math.max(width, x + side) - left, Math.max(height, y + side) - top];
      const scale = Math.min(this.root.clientWidth / across, this.root.clientHeight / down);
      place(this.plane, across * scale, down * scale);
      place(this.photo, width * scale, height * scale, -left * scale, -top * scale);
      place(this.frame, side * scale, side * scale, (x - left) * scale, (y - top) * scale);
    } else {
      const side = Math.min(this.root.clientWidth, this.root.clientHeight);
      place(this.plane, side, side);
      place(this.frame, side, side, 0, 0);
    }
    const { scale, x, y } = this.#zoom;
    this.plane.style.transform = scale > 1 ? `translate(${x}px, ${y}px) scale(${scale})` : "";
    this.root.classList.toggle("zoomed", scale > 1);
  }

  #source(image, path) {
    if (image.getAttribute("src") !== path) image.src = path;
  }

  #reset() {
    this.#zoom = { scale: 1, x: 0, y: 0 };
    this.plane.style.transform = "";
    this.root.classList.remove("zoomed");
  }

  #zoomAt(scale, x, y) {
    const { left, top, width, height } = this.#rest();
    const now = this.#zoom;
    const next = Math.min(MOST_ZOOM, Math.max(1, scale));
    // The point under the pointer stays where it is; the portrait never leaves the stage.
    const toX = x - left - ((x - left - now.x) / now.scale) * next;
    const toY = y - top - ((y - top - now.y) / now.scale) * next;
    this.#zoom = {
      scale: next,
      x: Math.min(0, Math.max(toX, width * (1 - next))),
      y: Math.min(0, Math.max(toY, height * (1 - next))),
    };
    this.#arrange();
  }

  #pan(dx, dy) {
    const { width, height } = this.#rest();
    const { scale, x, y } = this.#zoom;
    this.#zoom.x = Math.min(0, Math.max(x + dx, width * (1 - scale)));
    this.#zoom.y = Math.min(0, Math.max(y + dy, height * (1 - scale)));
    this.#arrange();
  }

  /** Where the plane lies without zoom, in pixels of the stage. */
  #rest() {
    const { offsetLeft: left, offsetTop: top, offsetWidth: width, offsetHeight: height } = this.plane;
    return { left, top, width, height };
  }

  // ---- mouse and fingers ----------------------------------------------------------------------------------

  #listen() {
    const { root } = this;
    root.addEventListener("pointerdown", (event) => this.#down(event));
    root.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      root.addEventListener(name, (event) => this.#up(event, name === "pointercancel"));
    }
    root.addEventListener("dblclick", (event) => this.#doubled(event));
    root.addEventListener("contextmenu", (event) => this.#gesture && event.preventDefault());
    root.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const at = this.#point(event);
        this.#zoomAt(this.#zoom.scale * Math.exp(-event.deltaY / 400), at.x, at.y);
        this.dispatchEvent(new Event("view"));
      },
      { passive: false },
    );
    new ResizeObserver(() => {
      this.#reset();
      this.#arrange();
    }).observe(root);
  }

  #point(event) {
    const box = this.root.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event) {
    if (event.button !== 0 || !this.#entry) return;
    window.focus(); // of the app's frame
    this.#pointers.set(event.pointerId, this.#point(event));
    this.root.setPointerCapture(event.pointerId);
    clearTimeout(this.#gesture?.timer);
    if (this.#pointers.size === 2) {
      this.#gesture = { kind: "pinch", distance: this.#spread(), scale: this.#zoom.scale };
      return;
    }
    const start = this.#point(event);
    const gesture = { kind: "press", start, last: start, touch: event.pointerType !== "mouse" };
    gesture.timer = setTimeout(() => {
      gesture.kind = "peek";
      this.peek(true);
    }, HOLD);
    this.#gesture = gesture;
  }

  #move(event) {
    if (!this.#pointers.has(event.pointerId) || !this.#gesture) return;
    const at = this.#point(event);
    this.#pointers.set(event.pointerId, at);
    const gesture = this.#gesture;
    if (gesture.kind === "pinch") {
      const [a, b] = this.#pointers.values();
      this.#zoomAt((gesture.scale * this.#spread()) / gesture.distance, (a.x + b.x) / 2, (a.y + b.y) / 2);
      return;
    }
    const [dx, dy] = [at.x - gesture.start.x, at.y - gesture.start.y];
    if (gesture.kind === "press" && Math.hypot(dx, dy) > 8) {
      clearTimeout(gesture.timer);
      if (this.zoomed) gesture.kind = "pan";
      else gesture.kind = gesture.touch && Math.abs(dx) > Math.abs(dy) ? "swipe" : "nothing";
    }
    if (gesture.kind === "pan") this.#pan(at.x - gesture.last.x, at.y - gesture.last.y);
    if (gesture.kind === "swipe") {
      this.plane.style.transform = `translateX(${dx}px) rotate(${dx / 60}deg)`;
      this.root.dataset.swipe = Math.abs(dx) < SWIPE ? "" : dx > 0 ? "right" : "left";
    }
    gesture.last = at;
  }

  #up(event, cancelled) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const gesture = this.#gesture;
    if (!gesture || this.#pointers.size) return;
    this.#gesture = null;
    clearTimeout(gesture.timer);
    if (gesture.kind === "peek") this.peek(false);
    if (gesture.kind === "swipe") {
      this.plane.style.transform = "";
      this.root.dataset.swipe = "";
      const dx = gesture.last.x - gesture.start.x;
      if (!cancelled && Math.abs(dx) >= SWIPE) {
        this.dispatchEvent(new CustomEvent("swipe", { detail: dx > 0 ? "right" : "left" }));
      }
    }
    if (gesture.kind === "press" && gesture.touch) this.#tapped(gesture);
    this.dispatchEvent(new Event("view"));
  }

  #tapped({ start }) {
    // Fingers have no dblclick where touch-action is set: two taps near each other are one.
    const now = performance.now();
    const { last } = this;
    if (last && now - last.time < 320 && Math.hypot(start.x - last.x, start.y - last.y) < 30) {
      this.last = null;
      this.toggleZoom(start.x / this.root.clientWidth, start.y / this.root.clientHeight);
    } else this.last = { time: now, ...start };
  }

  #doubled(event) {
    if (event.pointerType && event.pointerType !== "mouse") return;
    const at = this.#point(event);
    this.toggleZoom(at.x / this.root.clientWidth, at.y / this.root.clientHeight);
  }

  #spread() {
    const [a, b] = this.#pointers.values();
    return Math.max(20, Math.hypot(a.x - b.x, a.y - b.y));
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

function place(element, width, height, left, top) {
  element.style.width = `${width}px`;
  element.style.height = `${height}px`;
  if (left !== undefined) {
    element.style.left = `${left}px`;
    element.style.top = `${top}px`;
  }
}
