// What the page says about itself: progress, throughput, what is saved, banners, toasts, text for screen readers.

import { language, t } from "./texts.js";

const VIEWS = { crop: "", photo: t("original_photo"), mask: t("mask") };

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
    const filtered = Object.entries(this.loop.filter).length ? t("filtered") : "";
    this.at("queue-name").textContent = t("queue", { order: t(`order.${this.loop.order}`), filtered });
    const nothing = !entry && (feed.ended || feed.error);
    this.at("finish").hidden = !nothing;
    this.at("stage").hidden = Boolean(nothing);
    this.at("stage").classList.toggle("waiting", !entry?.ready);
    if (nothing) this.#finish(feed);
    if (feed.error?.status === 409) {
      this.banner(`${feed.error.message}.`, t("reload"), () => location.reload());
    }
    const chip = this.at("verdict");
    chip.hidden = !entry?.item.own_verdict;
    chip.className = `chip ${entry?.item.own_verdict ?? ""}`;
    chip.textContent = chip.hidden ? "" : t(`own.${entry.item.own_verdict}`);
    const text = entry ? described(entry.item) : "";
    this.at("angles").textContent = text;
    const told = chip.hidden ? "" : `, ${chip.textContent}`;
    this.at("stage").setAttribute("aria-label", entry ? t("portrait_is", { text: text + told }) : t("no_portrait"));
  }

  #finish({ error }) {
    const { done } = this.loop.throughput;
    this.at("finish-title").textContent = t(error ? "queue_away" : "nothing_left");
    this.at("finish-text").textContent = error
      ? t("queue_away_text", { why: error.message })
      : t(done === 1 ? "finish_one" : "finish_many", { done });
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
    const kept = t(outbox.durable ? "kept" : "waiting");
    const texts = {
      saved: t("saved"), sending: t("saving", { count }), offline: t("offline", { count, kept }),
      busy: t("not_saved", { count }), login: t("login_kept", { count, kept }),
    };
    this.at("saving").dataset.state = outbox.state;
    this.at("saving-text").textContent = texts[outbox.state];
    if (outbox.state === "offline") {
      this.banner(t(outbox.durable ? "offline_durable" : "offline_fragile"), t("retry_now"), () => outbox.send());
    } else if (outbox.state === "busy") {
      this.banner(t("busy", { why: outbox.message }), t("retry_now"), () => outbox.send());
    } else if (outbox.state === "login") {
      this.banner(t("logged_out"), t("log_in"), () => {
        location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
      });
    } else if (outbox.refused.length) {
      const { decision, why, elsewhere } = outbox.refused.at(-1);
      const others = outbox.refused.length > 1 ? t("and_more", { count: outbox.refused.length - 1 }) : "";
      const told = { verdict: t(`verb.${decision.verdict}`), id: decision.portrait_id.slice(0, 8), why, others };
      this.banner(t("refused", told), t(elsewhere ? "look_at_it" : "dismiss"), () => {
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
    const whose = !stage.wantsOriginal ? "" : t(entry.original ? "by_photo_pixels" : entry.blurred ? "enlarged" : "loading_photo");
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
    this.#toastTimer = setTimeout(() => this.endToast(), milliseconds);
  }

  endToast() {
    this.at("toast").hidden = true;
  }

  /** What is known of a gold item, where the team tells it. */
  gold({ known, right }) {
    this.toast(t(right ? "gold_right" : "gold_wrong", { verdict: t(`past.${known}`) }), right ? 2600 : 9000);
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
    this.at("app-link").hidden = window.top !== window || !this.loop.settings.app;
  }
}

/** A portrait in words. */
export function described(item) {
  const degrees = (angle) => `${Math.round(angle)}°`.replace("-", "−");
  const size = Math.abs(item.yaw);
  const side = size < 45 ? "front" : size > 135 ? "back" : item.yaw > 0 ? "left" : "right";
  const resolution = item.window[2] / item.size; // photo pixels per portrait pixel
  return t("described", {
    side: t(`side.${side}`), yaw: degrees(item.yaw), pitch: degrees(item.pitch),
    error: decimal(item.error_probability), resolution: decimal(resolution),
  });
}

function minutes(count) {
  if (count < 1) return t("a_minute");
  if (count < 120) return t("minutes", { count: Math.round(count) });
  return t("hours", { hours: Math.floor(count / 60), minutes: Math.round(count % 60) });
}

const numbers = new Intl.NumberFormat(language);
const decimals = new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

function number(value) {
  return numbers.format(value);
}

function decimal(value) {
  return decimals.format(value);
}
