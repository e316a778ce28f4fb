// Mouse and fingers on the stage: hold to peek, swipe to decide, drag, pinch, wheel and double tap to look closer.

const HOLD = 280; // milliseconds until a press is a hold
const SWIPE = 70; // pixels until a swipe is a decision
const DOUBLE = 320; // milliseconds between two taps that are one

export class Gestures {
  #pointers = new Map();
  #gesture = null;
  #tap = null;

  constructor(stage) {
    this.stage = stage;
    const { root } = stage;
    root.addEventListener("pointerdown", (event) => this.#down(event));
    root.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      root.addEventListener(name, (event) => this.#up(event, name === "pointercancel"));
    }
    root.addEventListener("dblclick", (event) => {
      if (!event.pointerType || event.pointerType === "mouse") stage.toggleZoom(this.#point(event));
    });
    root.addEventListener("contextmenu", (event) => this.#gesture && event.preventDefault());
    const wheel = (event) => {
      event.preventDefault();
      stage.zoomBy(Math.exp(-event.deltaY / 400), this.#point(event));
    };
    root.addEventListener("wheel", wheel, { passive: false });
  }

  #point(event) {
    const box = this.stage.root.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event) {
    if (event.button !== 0 || !this.stage.entry) return;
    window.focus(); // of the app's frame
    this.#pointers.set(event.pointerId, this.#point(event));
    this.stage.root.setPointerCapture(event.pointerId);
    clearTimeout(this.#gesture?.timer);
    if (this.#pointers.size === 2) {
      this.#gesture = { kind: "pinch", distance: this.#spread() };
      return;
    }
    const start = this.#point(event);
    const gesture = { kind: "press", start, last: start, touch: event.pointerType !== "mouse" };
    gesture.timer = setTimeout(() => {
      gesture.kind = "peek";
      this.stage.peek(true);
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
      const distance = this.#spread();
      this.stage.zoomBy(distance / gesture.distance, { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
      gesture.distance = distance;
      return;
    }
    const [dx, dy] = [at.x - gesture.start.x, at.y - gesture.start.y];
    if (gesture.kind === "press" && Math.hypot(dx, dy) > 8) {
      clearTimeout(gesture.timer);
      const across = Math.abs(dx) > Math.abs(dy);
      if (this.stage.zoomed || (this.stage.overflows && !across)) gesture.kind = "pan";
      else gesture.kind = gesture.touch && across ? "swipe" : "nothing";
    }
    if (gesture.kind === "pan") this.stage.panBy(at.x - gesture.last.x, at.y - gesture.last.y);
    if (gesture.kind === "swipe") this.#swiping(dx);
    gesture.last = at;
  }

  #swiping(dx) {
    const { root, plane } = this.stage;
    plane.style.transform = dx ? `translateX(${dx}px) rotate(${dx / 60}deg)` : "";
    root.dataset.swipe = Math.abs(dx) < SWIPE ? "" : dx > 0 ? "right" : "left";
  }

  #up(event, cancelled) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const gesture = this.#gesture;
    if (!gesture || this.#pointers.size) return;
    this.#gesture = null;
    clearTimeout(gesture.timer);
    if (gesture.kind === "peek") this.stage.peek(false);
    if (gesture.kind === "swipe") {
      this.#swiping(0);
      const dx = gesture.last.x - gesture.start.x;
      if (!cancelled && Math.abs(dx) >= SWIPE) {
        this.stage.dispatchEvent(new CustomEvent("swipe", { detail: dx > 0 ? "right" : "left" }));
      }
    }
    if (gesture.kind === "press" && gesture.touch) this.#tapped(gesture.start);
  }

  #tapped(start) {
    // Fingers have no dblclick where touch-action is set: two taps near each other are one.
    const now = performance.now();
    const before = this.#tap;
    if (before && now - before.time < DOUBLE && Math.hypot(start.x - before.x, start.y - before.y) < 30) {
      this.#tap = null;
      this.stage.toggleZoom(start);
    } else this.#tap = { time: now, ...start };
  }

  #spread() {
    const [a, b] = this.#pointers.values();
    return Math.max(20, Math.hypot(a.x - b.x, a.y - b.y));
  }
}
