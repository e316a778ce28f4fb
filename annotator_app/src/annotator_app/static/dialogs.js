// The dialogs: reason of a reject, note of a flag, choice of the queue, help. Each resolves with an answer.

import { KeyTable, kbd } from "./help.js";
import { actionOf, digit } from "./keys.js";
import { known, language, t } from "./texts.js";

export class Dialogs {

  constructor(root, settings, { lead }) {
    this.at = (id) => root.getElementById(id);
    // A digit for each; the log keeps the name.
    this.reasons = settings.reasons.map((one) => ({ ...one, title: known(`reason.${one.name}`, one.title) }));
    root.querySelectorAll("[data-close]").forEach((button) => {
      button.addEventListener("click", () => button.closest("dialog").close());
    });
    root.querySelectorAll("dialog").forEach((dialog) => {
      // A click beside the dialog closes it.
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    });
    this.#fillReasons();
    this.keyTable = new KeyTable(this.at("key-list"), this.at("key-reset"), (text) => (this.at("key-told").textContent = text));
    this.#fillQueue(settings, lead);
    this.#fillLanguages();
  }

  /** {reason, note, event} or null. One key answers; X again gives `last` ({reason, note}, what stands) once more. */
  reason(last) {
    const dialog = this.at("reasons");
    const form = this.at("other-form");
    const lastReason = this.reasons.find((one) => one.name === last?.reason) ?? this.reasons[0];
    form.hidden = true;
    this.at("other-text").value = "";
    this.at("same-reason").textContent = language === "de" ? lastReason.title : lastReason.title.toLowerCase();
    for (const button of this.at("reason-list").children) {
      button.classList.toggle("last", button.dataset.name === lastReason.name);
    }
    return ask(dialog, (done, on) => {
      const give = (row, event, note = "") => {
        if (row.name !== "other") {
          done({ reason: row.name, event });
          return;
        }
        form.hidden = false;
        this.at("other-text").value = note;
        this.at("other-text").focus();
        this.at("other-text").select();
      };
      on(document, "keydown", (event) => {
        if (event.target === this.at("other-text") || event.ctrlKey || event.metaKey || event.altKey) return;
        const again = actionOf(event) === "reject";
        const number = digit(event);
        const row = again ? lastReason : this.reasons.find((one) => one.key === String(number));
        if (!row || event.repeat) return;
        event.preventDefault();
        give(row, event, again ? (last?.note ?? "") : "");
      });
      on(this.at("reason-list"), "click", (event) => {
        const row = this.reasons.find((one) => one.name === event.target.closest("button")?.dataset.name);
        if (row) give(row, event);
      });
      on(form, "submit", (event) => {
        event.preventDefault();
        done({ reason: "other", note: this.at("other-text").value.trim(), event });
      });
      on(this.at("other-text"), "keydown", submitOnEnter);
      on(dialog, "keydown", (event) => {
        if (event.key === "Escape") dialog.close();
        if (event.key === "Tab") keepInside(dialog, event);
      });
      on(document, "pointerdown", (event) => dialog.contains(event.target) || dialog.close(), { capture: true });
    }, { focus: this.at("reason-list").querySelector(".last"), modal: false });
  }

  /** The note's text, or null. */
  note() {
    this.at("note-text").value = "";
    return ask(this.at("note"), (done, on) => {
      on(this.at("note-form"), "submit", (event) => {
        event.preventDefault();
        done(this.at("note-text").value.trim());
      });
      on(this.at("note-text"), "keydown", submitOnEnter);
    });
  }

  /** {order, filter} or null. */
  queue({ order, filter }) {
    const form = this.at("queue-form");
    form.elements.order.value = order;
    this.at("queue-source").value = filter.source ?? "";
    this.at("queue-yaw").value = filter.yaw_bin ?? "";
    this.at("queue-pool").value = filter.pool ?? "kept";
    const more = [...this.at("queue-more").querySelectorAll("[name]")];
    for (const one of more) one.value = filter[one.name] ?? "";
    this.at("queue-more").open = more.some((one) => one.value !== "");
    return ask(this.at("queue"), (done, on) => {
      on(form, "submit", (event) => {
        event.preventDefault();
        const source = this.at("queue-source").value.trim();
        const bin = this.at("queue-yaw").value;
        // The screening rejects what it gives a reason for.
        const pool = form.elements.screened.value && this.at("queue-pool").value === "kept" ? "screened_out" : this.at("queue-pool").value;
        const given = more.map((one) => [one.name, one.value.trim()]).filter(([, value]) => value !== "");
        const typed = given.map(([name, value]) => [name, /_error$/.test(name) ? Number(value) : value]);
        done({
          order: form.elements.order.value,
          filter: { ...(source && { source }), ...(bin !== "" && { yaw_bin: Number(bin) }), ...(pool !== "kept" && { pool }), ...Object.fromEntries(typed) },
        });
      });
    });
  }

  help(throughput) {
    const p95 = throughput.percentile(0.95);
    this.at("speed-text").textContent = p95
      ? t("speed", { median: Math.round(throughput.percentile(0.5)), p95: Math.round(p95) })
      : "";
    return ask(this.at("help"), (done, on) => {
      on(this.at("help"), "keydown", (event) => {
        if (!this.keyTable.take(event) && actionOf(event) === "help") done(null);
      });
    });
  }

  #fillLanguages() {
    const select = this.at("language");
    const name = (one) => new Intl.DisplayNames([one], { type: "language" }).of(one);
    const known = document.documentElement.dataset.languages.split(" ");
    select.append(...known.map((one) => new Option(name(one), one)));
    select.value = /(?:^|; )phq_language=(\w+)/.exec(document.cookie)?.[1] ?? "";
    select.addEventListener("change", () => {
      const age = select.value ? 400 * 86400 : 0;
      document.cookie = `phq_language=${select.value}; path=/; max-age=${age}; samesite=strict`;
      location.reload();
    });
  }

  #fillReasons() {
    this.at("reason-list").append(
      ...this.reasons.map((row) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.name = row.name;
        button.append(kbd(row.key), row.name === "other" ? `${row.title} …` : row.title);
        return button;
      }),
    );
  }

  #fillQueue({ yaw_bins: bins, sources, screen_reasons: screened }, lead) {
    const { elements } = this.at("queue-form");
    elements.screened.append(...screened.map((name) => new Option(known(`screened.${name}`, name.replaceAll("_", " ")), name)));
    elements.reason.append(...this.reasons.map(({ name, title }) => new Option(title, name)));
    if (!lead) this.at("queue-more").querySelectorAll("[data-lead]").forEach((one) => one.remove()); // verdicts of others
    this.at("queue-yaw").append(...bins.map((one) => new Option(known(`side.${one.name}`, one.name), one.bin)));
    this.at("sources").append(...sources.map((source) => new Option(source, source)));
  }
}

/** Open a dialog; `set(done, on)` connects it. Resolves with what `done` was given, or null when closed. */
function ask(dialog, set, { focus = null, modal = true } = {}) {
  return new Promise((resolve) => {
    const over = new AbortController();
    let answer = null;
    const on = (element, name, listener, more) => element.addEventListener(name, listener, { ...more, signal: over.signal });
    on(dialog, "close", () => {
      over.abort();
      resolve(answer);
    });
    set((given) => {
      answer = given;
      dialog.close();
      // `close` fires a task later; what was decided must not wait for it.
      over.abort();
      resolve(answer);
    }, on);
    // A modal dialog makes the browser style the whole page anew, twice: too slow for one that opens at every reject.
    if (modal) dialog.showModal();
    else dialog.show();
    focus?.focus();
  });
}

/** Tab goes round within a dialog that is not modal. */
function keepInside(dialog, event) {
  const fields = [...dialog.querySelectorAll("button, textarea")].filter((one) => one.offsetParent);
  const [edge, other] = event.shiftKey ? [fields[0], fields.at(-1)] : [fields.at(-1), fields[0]];
  if (document.activeElement !== edge) return;
  event.preventDefault();
  other.focus();
}

function submitOnEnter(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  event.target.form.requestSubmit();
}
