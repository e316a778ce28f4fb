// The key table of the help: what each key does, and choosing another.

import { KEYS, keysOf, labels, rebind, resetKeys, textOf } from "./keys.js";
import { t } from "./texts.js";

/** Fills `list`; a key's button takes the next key that is pressed. */
export class KeyTable {
  #waiting = null; // {action} whose key is being chosen

  constructor(list, reset, say) {
    this.list = list;
    this.say = say; // shows a sentence
    reset.addEventListener("click", () => {
      resetKeys();
      this.say(t("keys_are_reset"));
    });
    this.list.addEventListener("click", ({ target }) => {
      const button = target.closest("button[data-choose]");
      if (button) this.#choose(button);
    });
    this.list.addEventListener("focusout", () => this.#stop());
    addEventListener("keys", () => this.#fill());
    this.#fill();
  }

  /** Takes a key event while one is waited for; tells whether it did. */
  take(event) {
    if (!this.#waiting) return false;
    if (["Shift", "Control", "Alt", "Meta", "CapsLock", "AltGraph"].includes(event.key)) return true;
    event.preventDefault();
    event.stopPropagation();
    const { action } = this.#waiting;
    this.#stop();
    if (event.key !== "Escape") this.say(rebind(action, event));
    this.list.querySelector(`[data-choose=${action}]`)?.focus();
    return true;
  }

  #choose({ dataset: { choose: action } }) {
    this.#stop();
    const button = this.list.querySelector(`[data-choose=${action}]`); // the table may have been drawn anew
    button.focus(); // Safari does not focus what is clicked
    this.#waiting = { action };
    button.textContent = t("press_key");
    this.say(t("press_new"));
  }

  #stop() {
    if (!this.#waiting) return;
    this.#waiting = null;
    this.#fill();
  }

  #fill() {
    const groups = new Map();
    for (const row of KEYS) groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
    this.list.replaceChildren(...[...groups].flatMap(([group, rows]) => [heading(t(`group.${group}`)), table(rows)]));
  }
}

function heading(text) {
  const title = document.createElement("h3");
  title.textContent = text;
  return title;
}

function table(rows) {
  const made = document.createElement("table");
  for (const row of rows) {
    const line = made.insertRow();
    line.insertCell().append(...labels(row).slice(0, 2).flatMap((key) => [kbd(key), " "]));
    line.insertCell().textContent = textOf(row);
    line.insertCell().append(...(row.fixed ? [] : [chooser(row)]));
  }
  return made;
}

function chooser(row) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.dataset.choose = row.action;
  button.textContent = t("change");
  button.setAttribute("aria-label", t("choose_key", { text: textOf(row), key: labels(row)[0], place: keysOf(row)[0] }));
  return button;
}

/** A key as it is drawn in texts. */
export function kbd(text) {
  const element = document.createElement("kbd");
  element.textContent = text;
  return element;
}
