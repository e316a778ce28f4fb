// What the page says about itself: progress, throughput, what is saved, banners, toasts, text for screen readers.

const ORDERS = { error_probability: "by error probability", source: "by source", yaw: "by yaw", random: "random" };
const VIEWS = { crop: "", photo: "Original photo", mask: "Mask" };
const PAST = { accept: "you accepted it", reject: "you rejected it", flag: "you flagged it", correct: "you corrected it" };

export class Status {
  #toastTimer = null;

  constructor(root, loop) {
    this.at = (id) => root.getElementById(id);
    this.loop = loop;
    this.at("who").textContent = loop.me.name ?? "";
    this.#appLink();
    this.#keepFocus();
    setInterval(() => this.#progress(), 5000);
    this.at("banner-button").addEventListener("click", () => this.bannerAction?.());
  }

  /** A portrait (or the end of the queue) is on the stage. */
  show(entry) {
    const { feed } = this.loop;
    this.#progress();
    const filtered = Object.entries(this.loop.filter).length ? ", filtered" : "";
    this.at("queue-name").textContent = `Queue: ${ORDERS[this.loop.order]}${filtered}`;
    const nothing = !entry && (feed.ended || feed.error);
    this.at("finish").hidden = !nothing;
    this.at("stage").hidden = Boolean(nothing);
    this.at("stage").classList.toggle("waiting", !entry?.ready);
    if (nothing) this.#finish(feed);
    if (feed.error?.status === 409) {
      this.banner(`${feed.error.message}.`, "Reload", () => location.reload());
    }
    const chip = this.at("verdict");
    chip.hidden = !entry?.item.own_verdict;
    chip.className = `chip ${entry?.item.own_verdict ?? ""}`;
    chip.textContent = PAST[entry?.item.own_verdict] ?? "";
    const text = entry ? described(entry.item) : "";
    this.at("angles").textContent = text;
    const told = chip.hidden ? "" : `, ${chip.textContent}`;
    this.at("stage").setAttribute("aria-label", entry ? `Portrait: ${text}${told}` : "No portrait");
  }

  #finish({ error }) {
    const { done } = this.loop.throughput;
    this.at("finish-title").textContent = error ? "The queue cannot be reached" : "Nothing left in this queue";
    this.at("finish-text").textContent = error
      ? `${error.message}. Your decisions are kept and will be sent; the page retries by itself.`
      : `You decided ${done} ${done === 1 ? "portrait" : "portraits"} today. Skipped portraits and portraits leased to others may come back.`;
  }

  #progress() {
    const { throughput, feed } = this.loop;
    const rate = throughput.perMinute;
    const { remaining: left, total } = feed;
    this.at("done").textContent = number(throughput.done);
    this.at("throughput").textContent = rate ? rate.toFixed(rate < 10 ? 1 : 0) : "–";
    this.at("left").textContent = left === null ? "–" : number(left);
    this.at("total").textContent = total === null ? "–" : number(total);
    this.at("time-left").textContent = rate && left !== null ? minutes(left / rate) : "–";
    this.at("track").max = Math.max(1, total ?? 1);
    this.at("track").value = total === null ? 0 : total - left;
    const word = throughput.word();
    if (word) this.toast(word, 9000);
  }

  /** How the outbox is doing: the small sign, and a banner when something is wrong. */
  saving(outbox) {
    const count = outbox.waiting.length;
    const kept = outbox.durable ? "kept in this browser" : "waiting";
    const texts = {
      saved: "All saved", sending: `Saving ${count}`, offline: `Offline · ${count} ${kept}`,
      busy: `${count} not saved yet`, login: `${count} ${kept}`,
    };
    this.at("saving").dataset.state = outbox.state;
    this.at("saving-text").textContent = texts[outbox.state];
    if (outbox.state === "offline") {
      const safe = outbox.durable
        ? "Decisions are kept in this browser and sent in order when the service is back."
        : "This browser cannot store data: leave the page open until everything is saved.";
      this.banner(`The service cannot be reached. You can go on. ${safe}`, "Retry now", () => outbox.send());
    } else if (outbox.state === "busy") {
      this.banner(`Not saved yet: ${outbox.message}. The page retries by itself.`, "Retry now", () => outbox.send());
    } else if (outbox.state === "login") {
      this.banner("You are no longer logged in. Your decisions are kept.", "Log in", () => {
        location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
      });
    } else if (outbox.refused.length) {
      const { decision, why, elsewhere } = outbox.refused.at(-1);
      const others = outbox.refused.length > 1 ? ` (and ${outbox.refused.length - 1} more)` : "";
      this.banner(`The service refused your ${decision.verdict} of portrait ${decision.portrait_id.slice(0, 8)}: ${why}${others}`, elsewhere ? "Look at it" : "Dismiss", () => {
        outbox.refused.length = 0;
        this.banner("");
        if (elsewhere) this.loop.recall(decision.portrait_id);
      });
    } else this.banner("");
  }

  banner(text, button = "", action = null) {
    this.at("banner").hidden = !text;
    if (this.at("banner-text").textContent !== text) this.at("banner-text").textContent = text;
    this.at("banner-button").hidden = !button;
    this.at("banner-button").textContent = button;
    this.bannerAction = action;
  }

  /** Which looks are on. */
  looks(stage) {
    this.at("look-overlay").setAttribute("aria-pressed", stage.overlay);
    this.at("look-zoom").setAttribute("aria-pressed", stage.zoomed && !stage.onPixels);
    this.at("look-pixels").setAttribute("aria-pressed", stage.onPixels);
    this.at("look-photo").setAttribute("aria-pressed", stage.view === "photo");
    this.at("look-mask").setAttribute("aria-pressed", stage.view === "mask");
    this.at("opacity").value = stage.opacity;
    this.at("view-name").textContent = VIEWS[stage.view];
  }

  /** How large photo pixels are shown, and whose pixels these are. */
  scale(stage) {
    const { scale, entry } = stage;
    const size = scale === null ? "" : stage.onPixels ? "1:1" : `${Math.round(scale * 100)} %`;
    const whose = !stage.wantsOriginal ? "" : entry.original ? " · photo pixels" : entry.blurred ? " · enlarged: the photo is not available" : " · loading the photo …";
    if (this.at("scale").textContent !== size + whose) this.at("scale").textContent = size + whose;
  }

  /** Text for screen readers only. */
  say(text) {
    this.at("live").textContent = text;
  }

  toast(text, milliseconds = 2600) {
    const toast = this.at("toast");
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => (toast.hidden = true), milliseconds);
  }

  /** What is known of a gold item, where the team tells it. */
  gold({ known, right }) {
    const verdict = { accept: "accepted", reject: "rejected" }[known];
    this.toast(right ? `A gold item, and you were right: it is ${verdict}.` : `A gold item: it should be ${verdict}. Its image is among your latest decisions.`, right ? 2600 : 9000);
  }

  /** Within the app's frame, keys come here only when the frame has the focus. */
  #keepFocus() {
    if (window.top === window) return;
    const hint = () => (this.at("focus-hint").hidden = document.hasFocus());
    addEventListener("focus", hint);
    addEventListener("blur", hint);
    window.focus();
    setTimeout(hint, 300);
  }

  #appLink() {
    // The app runs beside this service, on another port of the same host.
    const port = Number(new URLSearchParams(location.search).get("app"));
    const link = this.at("app-link");
    if (window.top !== window || !(port > 0 && port < 65536)) return;
    link.href = `${location.protocol}//${location.hostname}:${port}/dashboard`;
    link.hidden = false;
  }
}

function described(item) {
  const degrees = (angle) => `${Math.round(angle)}°`.replace("-", "−");
  const size = Math.abs(item.yaw);
  const side = size < 45 ? "front" : size > 135 ? "back" : item.yaw > 0 ? "left side" : "right side";
  const resolution = item.window[2] / item.size; // photo pixels per portrait pixel
  return `${side} · yaw ${degrees(item.yaw)} · pitch ${degrees(item.pitch)} · error probability ${item.error_probability.toFixed(2)} · effective resolution ${resolution.toFixed(2)}`;
}

function minutes(count) {
  if (count < 1) return "a minute";
  if (count < 120) return `${Math.round(count)} min`;
  return `${Math.floor(count / 60)} h ${Math.round(count % 60)} min`;
}

const numbers = new Intl.NumberFormat("en");

function number(value) {
  return numbers.format(value);
}
