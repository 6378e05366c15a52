// What was asked before: kept in this browser, newest first.

import { byId, element } from "./dom.js";
import { Kept } from "./storage.js";

const KEY = "mark.history";
const MOST = 100;
const KEPT = "Kept in this browser only.";
const NOT_KEPT = "This browser's storage is full or blocked: what is listed here is lost when the page is reloaded.";

/** The list of earlier answers. */
export class History {
  #kept = new Kept(() => localStorage, KEY);
  #entries = [];
  #open;

  /** @param {(entry: Object) => void} open Shows an earlier answer. */
  constructor(open) {
    this.#open = open;
    byId("history-clear").addEventListener("click", () => this.#keep([]));
    window.addEventListener("storage", (event) => {
      if (event.key === KEY || event.key === null) this.#read();
    });
    this.#read();
  }

  /** Put a new answer first. */
  add(entry) {
    this.#keep([entry, ...this.#entries]);
  }

  /** Replace an answer by its id; one that was cleared stays away. */
  update(entry) {
    const place = this.#entries.findIndex((known) => known.id === entry.id);
    if (place >= 0) this.#keep(this.#entries.with(place, entry));
  }

  #read() {
    this.#kept = new Kept(() => localStorage, KEY);
    const found = this.#kept.value;
    this.#entries = Array.isArray(found) ? found.filter(isEntry) : [];
    this.#show(true);
  }

  #keep(entries) {
    this.#entries = entries.slice(0, MOST);
    let stored = this.#entries;
    let taken = this.#kept.set(stored.length ? stored : null);
    while (!taken && stored.length > 1) {
      stored = stored.slice(0, stored.length >> 1); // the newest fit where all do not
      taken = this.#kept.set(stored);
    }
    this.#show(taken && stored.length === this.#entries.length);
  }

  #show(taken) {
    byId("history-note").textContent = taken ? KEPT : NOT_KEPT;
    byId("history-clear").hidden = this.#entries.length === 0;
    byId("history-list").replaceChildren(...this.#entries.map((entry) => this.#row(entry)));
  }

  #row(entry) {
    const when = new Date(entry.at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const kind = entry.mark.refused ? "not in these documents" : entry.mark.unsupported ? "check the source" : "";
    return element("li", {},
      element("button", { type: "button", class: "row", on: { click: () => this.#open(entry) } },
        element("span", { class: "row-main" }, entry.question),
        element("span", { class: "row-sub" }, kind ? `${when} · ${kind}` : when)));
  }
}

function isEntry(value) {
  return typeof value?.id === "string" && typeof value.question === "string" && typeof value.text === "string"
    && Number.isFinite(value.at) && Array.isArray(value.mark?.quotes) && Array.isArray(value.mark.passages)
    && Array.isArray(value.mark.notes);
}
