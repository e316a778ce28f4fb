// What stands beside the portrait: the original photo, the evidence, the neighbours, the latest decisions.
// It is filled when a portrait has been looked at for a moment, so that quick decisions cost nothing.

import { known, t } from "./texts.js";

const SETTLED = 180; // milliseconds
const LATEST = 12;
const NEAR = 0.8; // of the limit
const LEAST = 3; // measurements that are always in view
const SIGNS = { accept: "✓", reject: "×", flag: "!", correct: "↻" };

export class Panels {
  #timer = null;
  #latest = []; // {portrait_id, verdict, reason, decision_id}, newest first

  constructor(root, { recall }) {
    this.recall = recall;
    const at = (id) => root.getElementById(id);
    this.miniPhoto = at("mini-photo");
    this.miniBox = at("mini-box");
    this.photoText = at("photo-text");
    this.miniPhoto.addEventListener("load", () => this.entry && this.#box(this.entry.item));
    this.miniPhoto.addEventListener("error", () => {
      this.miniBox.hidden = true;
      this.miniPhoto.removeAttribute("src"); // no broken image, and no box around nothing
      this.photoText.textContent = t("no_photo_stop");
    });
    this.evidence = at("evidence");
    this.evidenceRest = at("evidence-rest");
    this.neighbours = at("neighbours");
    this.strip = at("strip");
    this.sections = { photo: at("panel-photo"), evidence: at("panel-evidence"), neighbours: at("panel-neighbours") };
    for (const [name, section] of Object.entries(this.sections)) {
      const kept = localStorage.getItem(`phq-panel-${name}`);
      if (kept !== null) section.open = kept === "1";
      section.addEventListener("toggle", () => {
        localStorage.setItem(`phq-panel-${name}`, section.open ? "1" : "0");
        if (this.entry) this.#fill(this.entry);
      });
    }
    this.#drawStrip();
  }

  /** Open or close one of photo, evidence, neighbours; on a small screen, bring it into view. */
  toggle(name) {
    const section = this.sections[name];
    section.open = name === "evidence" || !section.open; // the evidence is looked for, never in the way
    if (section.open) section.scrollIntoView({ block: "nearest" });
    return section.open;
  }

  /** Another portrait is on the stage (or none). */
  show(entry) {
    this.entry = entry;
    clearTimeout(this.#timer);
    const [telling, rest] = byImportance(entry?.item.measures ?? []);
    this.evidence.replaceChildren(...telling.map(evidenceRow));
    this.evidenceRest.replaceChildren(...rest.map(evidenceRow));
    this.miniPhoto.removeAttribute("src");
    this.miniBox.hidden = true;
    this.photoText.textContent = "";
    this.neighbours.replaceChildren();
    if (entry) this.#timer = setTimeout(() => this.#fill(entry), SETTLED);
  }

  #fill(entry) {
    if (this.entry !== entry) return;
    const { item } = entry;
    if (this.sections.photo.open) {
      this.miniPhoto.src = item.images.photo;
      const size = `${item.photo_width} × ${item.photo_height}`;
      this.photoText.textContent = [item.file || item.source, size, ...rightsWords(item.provenance)].join(" · ");
    }
    if (this.sections.neighbours.open) {
      this.neighbours.replaceChildren(
        neighbour(t("before"), item.previous, t("first_of_source")),
        neighbour(t("after"), item.next, t("last_of_source")),
      );
    }
  }

  #box(item) {
    const { clientWidth: width, clientHeight: height } = this.miniPhoto;
    const scale = Math.min(width / item.photo_width, height / item.photo_height);
    const [x, y, side] = item.window;
    this.miniBox.hidden = false;
    Object.assign(this.miniBox.style, {
      left: `${(width - item.photo_width * scale) / 2 + x * scale}px`,
      top: `${(height - item.photo_height * scale) / 2 + y * scale}px`,
      width: `${side * scale}px`,
      height: `${side * scale}px`,
    });
  }

  /** The latest decisions, newest first; each leads back to its portrait. */
  setLatest(decisions) {
    this.#latest = decisions.slice(0, LATEST);
    this.#drawStrip();
  }

  #drawStrip() {
    if (!this.#latest.length) {
      const empty = document.createElement("li");
      empty.className = "strip-empty";
      empty.textContent = t("strip_empty");
      this.strip.replaceChildren(empty);
      return;
    }
    const there = new Map([...this.strip.children].map((row) => [row.dataset.key, row]));
    this.strip.replaceChildren(
      ...this.#latest.map((decision) => {
        const key = `${decision.portrait_id}/${decision.decision_id}`;
        const row = there.get(key) ?? this.#stripRow(decision, key);
        row.classList.toggle("unsent", Boolean(decision.unsent));
        return row;
      }),
    );
  }

  #stripRow(decision, key) {
    const row = document.createElement("li");
    row.dataset.key = key;
    const button = document.createElement("button");
    button.type = "button";
    const why = decision.reason ? `, ${known(`reason.${decision.reason}`, decision.reason)}` : "";
    button.title = t(`past.${decision.verdict}`) + why;
    button.setAttribute("aria-label", t("show_again", { what: button.title }));
    button.addEventListener("click", () => this.recall(decision.portrait_id));
    const sign = document.createElement("i");
    sign.className = decision.verdict;
    sign.textContent = SIGNS[decision.verdict];
    button.append(thumb(decision.portrait_id), sign);
    row.append(button);
    return row;
  }
}

/** Who allowed what with the photo, and whether the people shown agree; nothing where the index does not know. */
function rightsWords({ rights, consent }) {
  return rights ? [rights, `consent: ${consent ?? "nobody has said"}`] : [];
}

/** What is beyond or near its limit, nearest first and at least three; and the rest. */
function byImportance(measures) {
  const sorted = [...measures].sort((one, other) => other.limit_share - one.limit_share);
  const count = Math.max(LEAST, sorted.filter((one) => one.limit_share >= NEAR).length);
  return [sorted.slice(0, count), sorted.slice(count)];
}

/** "15.5 %  shoulder error  at most 15 %", in colour where the limit is broken or near. */
function evidenceRow({ name: key, title, value, limit, broken, limit_share: share }) {
  const row = document.createElement("tr");
  row.className = broken ? "broken" : share >= NEAR ? "near" : "";
  const number = row.insertCell();
  number.textContent = value;
  const name = document.createElement("th");
  name.scope = "row";
  const wanted = document.createElement("small");
  wanted.textContent = limit.replace("at most", t("at_most")).replace("at least", t("at_least"));
  name.append(`${known(`measure.${key}`, title)} `, wanted);
  row.append(name);
  return row;
}

function neighbour(where, id, none) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = id ? where : none;
  if (id) figure.append(thumb(id));
  figure.append(caption);
  return figure;
}

function thumb(id) {
  const image = document.createElement("img");
  image.alt = "";
  image.loading = "lazy";
  image.decoding = "async";
  image.src = `/img/${id}/thumb`;
  // Without network: an empty tile, no broken image; it comes when the network does.
  image.addEventListener("error", () => {
    image.removeAttribute("src");
    addEventListener("online", () => (image.src = `/img/${id}/thumb`), { once: true });
  });
  return image;
}
