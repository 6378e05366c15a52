// The Review tab: reads the feedback that waits, marks each to accept or reject, and sends all at once.

import { wordDiff } from "./diff.js";
import { element } from "./dom.js";
import { shown } from "./untrusted.js";

const SIZE = 20; // rows of one page
const REASONS = {
  duplicate: "duplicate",
  superseded: "superseded",
  rejected: "rejected before",
  "test question": "test question",
  flood: "flood",
  full: "full",
};

/**
 * Fill the tab.
 * @param {HTMLElement} host
 * @param {Object} api As of api.js.
 */
export async function mount(host, api) {
  await new Review(host, api).open();
}

class Review {
  constructor(host, api) {
    this.api = api;
    this.host = host;
    this.decisions = new Map(); // id -> { kind: accept | reject, seen }
    this.offset = 0;
    this.state = element("p", { role: "status", class: "review-state" });
    this.fault = element("p", { role: "alert", class: "fault" });
    this.list = element("ol", { class: "review-list", "aria-label": "Feedback that waits" });
    this.pager = element("p", { class: "review-pager" });
    this.out = element("div");
    this.tally = element("span", { "aria-live": "polite" });
    this.send = element(
      "button",
      { type: "button", class: "primary", on: { click: () => this.submit() } },
      "Send the review",
    );
    this.keys = (event) => this.key(event);
  }

  async open() {
    this.host.replaceChildren(element("p", { role: "status", class: "note" }, "Reading the inbox …"));
    try {
      await this.load();
    } catch (fault) {
      this.host.replaceChildren(element("p", { role: "alert", class: "fault" }, fault.message));
      return;
    }
    this.host.replaceChildren(
      element(
        "div",
        { class: "review" },
        element("p", { class: "note" }, "Only what you accept here can be trained on. Keys: ", ...keyNames()),
        this.state,
        this.fault,
        this.list,
        this.pager,
        element("div", { class: "review-send" }, this.send, this.tally),
        this.out,
      ),
    );
    document.addEventListener("keydown", this.keys);
  }

  async load() {
    const path = `/v1/feedback/inbox?state=waiting&offset=${this.offset}&limit=${SIZE}`;
    const page = await this.api.get(path);
    this.rows = page.data.map((item) => ({ item, ...this.card(item) }));
    this.list.replaceChildren(...this.rows.map((row) => row.card));
    this.state.textContent = counts(page);
    this.pager.replaceChildren(...this.pages(page));
    this.out.replaceChildren(...this.staysOut(page));
    for (const { item } of this.rows)
      if (this.decisions.has(item.id) && this.decisions.get(item.id).seen !== item.seen)
        this.decisions.delete(item.id); // its sender has changed it: it has to be read again
    this.rows.forEach((row) => this.mark(row));
    this.showTally();
  }

  card(item) {
    const buttons = ["accept", "reject"].map((kind) =>
      element(
        "button",
        {
          type: "button",
          class: `decide ${kind}`,
          "aria-pressed": "false",
          on: { click: () => this.toggle(item, kind) },
        },
        kind === "accept" ? "Accept" : "Reject",
      ),
    );
    const card = element(
      "li",
      { class: "review-card", tabindex: "-1" },
      ...body(item),
      element("div", { class: "review-buttons" }, ...buttons),
    );
    return { card, buttons };
  }

  toggle({ id, seen }, kind) {
    if (this.decisions.get(id)?.kind === kind) this.decisions.delete(id);
    else this.decisions.set(id, { kind, seen });
    this.mark(this.rows.find((row) => row.item.id === id));
    this.showTally();
  }

  mark({ item, card, buttons }) {
    const decided = this.decisions.get(item.id)?.kind;
    card.dataset.decision = decided ?? "";
    buttons.forEach((button) =>
      button.setAttribute("aria-pressed", String(button.classList.contains(decided))),
    );
  }

  /** What is decided so: `{ id, seen }` of each. */
  chosen(kind) {
    const all = [...this.decisions].filter(([, one]) => one.kind === kind);
    return all.map(([id, { seen }]) => ({ id, seen }));
  }

  showTally() {
    const [accepted, rejected] = [this.chosen("accept").length, this.chosen("reject").length];
    this.tally.textContent = `${accepted} to accept, ${rejected} to reject`;
    this.send.disabled = this.decisions.size === 0;
  }

  key(event) {
    if (!this.host.isConnected) {
      document.removeEventListener("keydown", this.keys);
      return;
    }
    const typing = event.target.closest?.("input, textarea, select, dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || this.host.offsetParent === null) return;
    const here = this.rows.findIndex((row) => row.card.contains(document.activeElement));
    const kind = { a: "accept", r: "reject" }[event.key];
    const move = { j: 1, k: -1 }[event.key];
    if (move) this.focus(here < 0 ? 0 : here + move);
    else if (kind && here >= 0) {
      const { item } = this.rows[here];
      this.toggle(item, kind);
      if (this.decisions.has(item.id)) this.focus(here + 1);
    } else return;
    event.preventDefault();
  }

  focus(index) {
    const row = this.rows[Math.min(Math.max(index, 0), this.rows.length - 1)];
    row?.card.focus();
    row?.card.scrollIntoView({ block: "nearest" });
  }

  async submit() {
    this.send.disabled = true;
    this.fault.textContent = "";
    try {
      const done = await this.api.post("/v1/feedback/review", {
        accept: this.chosen("accept"),
        reject: this.chosen("reject").map((one) => one.id),
      });
      this.decisions.clear();
      this.offset = 0;
      await this.load();
      const told = `${done.accepted.length} accepted, ${done.rejected.length} rejected.`;
      this.state.textContent = `${told} ${this.state.textContent}`;
    } catch (fault) {
      this.decisions.delete(fault.param); // otherwise it could be undecided no more where it has left the list
      await this.load().catch(() => this.showTally());
      this.fault.textContent = `The review failed: ${fault.message}`;
    }
  }

  pages(page) {
    if (page.total <= SIZE) return [];
    const last = Math.min(page.offset + SIZE, page.total);
    const go = (offset, name, on) =>
      element(
        "button",
        { type: "button", class: "quiet", disabled: !on, on: { click: () => this.turn(offset) } },
        name,
      );
    return [
      go(page.offset - SIZE, "Earlier", page.offset > 0),
      ` ${page.offset + 1} to ${last} of ${page.total} `,
      go(page.offset + SIZE, "Later", last < page.total),
    ];
  }

  async turn(offset) {
    this.offset = offset;
    this.fault.textContent = "";
    try {
      await this.load();
      this.focus(0);
    } catch (fault) {
      this.fault.textContent = fault.message;
    }
  }

  staysOut(page) {
    const total = page.stays_out.reduce((sum, one) => sum + one.count, 0);
    if (total === 0) return [];
    const place = element("ol", { class: "review-list" });
    const told = page.stays_out.map((one) => `${one.count} ${REASONS[one.reason]}`).join(", ");
    const opened = async (event) => {
      if (event.target.open && !place.hasChildNodes()) await this.more(place, 0);
    };
    return [
      element(
        "details",
        { class: "review-out", on: { toggle: opened } },
        element("summary", {}, `Cannot be accepted: ${told}`),
        place,
      ),
    ];
  }

  async more(place, offset) {
    try {
      const page = await this.api.get(`/v1/feedback/inbox?state=out&offset=${offset}&limit=${SIZE}`);
      place.append(...page.data.map((item) => element("li", { class: "review-card out" }, ...body(item))));
      const next = offset + SIZE;
      if (next >= page.total) return;
      const onward = () => {
        button.remove();
        this.more(place, next);
      };
      const button = element("button", { type: "button", class: "quiet", on: { click: onward } }, "More");
      place.append(button);
    } catch (fault) {
      place.append(element("li", { class: "fault" }, fault.message));
    }
  }
}

function body(item) {
  return [
    item.reason === null
      ? null
      : element(
          "p",
          { class: "review-reason" },
          element("strong", {}, REASONS[item.reason]),
          `: ${item.why}.`,
        ),
    item.replaces
      ? element("p", { class: "review-reason" }, "Changes what was accepted of this sender before.")
      : null,
    shown(item.question, "h3"),
    ...texts(item),
    item.comment === null
      ? null
      : element("p", {}, element("span", { class: "term" }, "Comment "), shown(item.comment)),
    passages(item.passages),
    element("p", { class: "note" }, origin(item)),
  ].filter((part) => part !== null);
}

function origin(item) {
  const rating = { up: "rated up", down: "rated down" }[item.thumb] ?? "not rated";
  const received = item.received.slice(0, 16).replace("T", " ");
  return [rating, item.model, `from ${item.source}`, received, item.id].join(" · ");
}

function texts(item) {
  if (item.edited === null) return [text("Answer", [shown(item.answer)])];
  const found = wordDiff(item.answer, item.edited);
  const runs = (all, tag) => all.map((run) => (run.changed ? shown(run.text, tag) : shown(run.text)));
  return [
    element(
      "div",
      { class: "review-pair" },
      text("Answer", runs(found.before, "del")),
      text("Should have been", runs(found.after, "ins")),
    ),
  ];
}

function text(name, parts) {
  return element(
    "div",
    { class: "review-text" },
    element("p", { class: "term" }, name),
    element("p", { class: "review-words" }, ...parts),
  );
}

function passages(all) {
  if (all.length === 0) return element("p", { class: "note" }, "No passages were shown to the model.");
  return element("details", {}, element("summary", {}, `Passages (${all.length})`), ...all.map(passage));
}

function passage(one) {
  if (one.text === null)
    return element("p", { class: "note" }, `${one.chunk_id}: no longer in the documents`);
  const pages = one.pages.length ? `, page ${one.pages.join(", ")}` : "";
  const heading = one.heading ? ` › ${one.heading}` : "";
  return element(
    "blockquote",
    {},
    shown(`${one.title}${heading}${pages}`, "p", { class: "term" }),
    shown(one.text, "p", { class: "review-words" }),
  );
}

function counts(page) {
  const unread = page.unreadable ? ` ${page.unreadable} lines of the inbox are unreadable.` : "";
  const waiting = page.waiting === 1 ? "1 waits" : `${page.waiting} wait`;
  return `${waiting} for review; ${page.accepted} accepted in all.${unread}`;
}

function keyNames() {
  const keys = [
    ["j", "next"],
    ["k", "previous"],
    ["a", "accept"],
    ["r", "reject"],
  ];
  return keys.flatMap(([key, what], i) => [i ? ", " : "", element("kbd", {}, key), ` ${what}`]);
}
