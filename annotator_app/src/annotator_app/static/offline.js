// Work without network across a reload: the service worker keeps what was fetched, this file which portraits are held.

import { get } from "./api.js";

const DATA = "phq-data"; // of the service worker, which empties it when somebody else logs in
const HELD = "/kept/held";
const PASSED = "phq-passed/"; // then the owner: ids that were decided since the held ones were written

export class AtHand {
  #owner;

  constructor(owner) {
    this.#owner = owner;
  }

  /** Register the service worker; `again` is called when it has just begun to see what this page asks for. */
  async begin(again) {
    if (!navigator.serviceWorker) return; // plain HTTP beyond this computer
    if (!navigator.serviceWorker.controller) navigator.serviceWorker.addEventListener("controllerchange", again, { once: true });
    await navigator.serviceWorker.register("/worker.js").catch(() => {});
  }

  /** Remember the portraits that are held now, next one first. */
  async keep(held) {
    if (!window.caches) return;
    try {
      const data = await caches.open(DATA);
      await data.put(HELD, new Response(JSON.stringify({ owner: this.#owner, ...held })));
      localStorage.removeItem(PASSED + this.#owner);
    } catch {
      // Full or switched off: the next reload needs the network.
    }
  }

  /** These are done. */
  pass(...ids) {
    try {
      localStorage.setItem(PASSED + this.#owner, `${localStorage.getItem(PASSED + this.#owner) ?? ""} ${ids.join(" ")}`);
    } catch {
      // It is shown again after a reload without network.
    }
  }

  /** What was held before the reload, without what was decided since; null when there is nothing of this person. */
  async held() {
    if (!window.caches) return null;
    try {
      const found = await (await (await caches.open(DATA)).match(HELD))?.json();
      if (found?.owner !== this.#owner) return null;
      const passed = new Set((localStorage.getItem(PASSED + this.#owner) ?? "").split(" "));
      return { ...found, items: found.items.filter((item) => !passed.has(item.portrait_id)) };
    } catch {
      return null;
    }
  }
}

/** Ask once more for what a page needs to begin, so that the service worker has seen it. */
export async function askAgain(entries) {
  for (const path of ["/api/me", "/api/settings", "/api/history?limit=500"]) await get(path).catch(() => {});
  entries.forEach((entry) => entry.askAgain());
}
