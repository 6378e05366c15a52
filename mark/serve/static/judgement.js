// What the reader thinks of an answer. Each call sends the whole judgement, as the server wants it.

import { element, icon, showLine } from "./dom.js";

const THUMB = "M3 11h4v9H3z M7 11l4-8c2 0 3 1.300 2.700 3L13 9h5.500a2 2 0 0 1 2 2.400l-1.300 6.500a2 2 0 0 1-2 1.600H7";

const PLACED = {
  added: "Thank you. It is used after a review.",
  changed: "Changed. It is used after a review.",
  "already there": "It is there already.",
};

/**
 * Thumbs and the form for a better answer.
 * @param {Object} entry Its `judged` holds what was sent before.
 * @param {Object} actions `send(judgement)`, `keep(entry)`.
 */
export function judgement(entry, actions) {
  const line = element("p", { class: "note", role: "status", hidden: true });
  const thumbs = ["up", "down"].map((rating) => thumb(rating, () => tell({ rating })));
  const form = editForm(entry, (words) => tell(words));
  const edit = element("button", { type: "button", class: "quiet", "aria-expanded": "false", on: {
    click() {
      form.hidden = !form.hidden;
      edit.setAttribute("aria-expanded", String(!form.hidden));
      if (!form.hidden) form.querySelector("textarea").focus();
    },
  } }, "Edit the answer");
  let judged = entry.judged ?? {};
  showThumbs();

  async function tell(change) {
    const now = { ...judged, ...change };
    try {
      const { placed } = await actions.send({ id: entry.id, ...now });
      judged = now;
      actions.keep({ ...entry, judged });
      line.className = "note";
      showLine(line, PLACED[placed] ?? placed);
      form.hidden = true;
      edit.setAttribute("aria-expanded", "false");
    } catch (fault) {
      line.className = "fault";
      showLine(line, fault.message);
    }
    showThumbs();
  }

  function showThumbs() {
    for (const button of thumbs) {
      button.setAttribute("aria-pressed", String(button.dataset.rating === judged.rating));
    }
  }

  return element("section", { class: "judgement", "aria-label": "Your judgement" },
    element("div", { class: "judge-row" }, ...thumbs, edit), form, line);
}

function thumb(rating, tell) {
  const label = rating === "up" ? "Good answer" : "Bad answer";
  return element("button", {
    type: "button", class: `quiet thumb ${rating}`, "data-rating": rating, "aria-label": label, title: label,
    on: { click: tell },
  }, icon(THUMB));
}

function editForm(entry, tell) {
  const edited = element("textarea", { id: `edited-${entry.id}`, rows: "4" });
  edited.value = entry.judged?.edited ?? entry.text;
  const comment = element("input", { id: `comment-${entry.id}`, type: "text", autocomplete: "off" });
  comment.value = entry.judged?.comment ?? "";
  return element("form", { class: "edit", hidden: true, on: {
    submit(event) {
      event.preventDefault();
      tell({
        edited: edited.value === entry.text ? undefined : edited.value,
        comment: comment.value.trim() || undefined,
      });
    },
  } },
    element("label", { for: edited.id }, "What the answer should have been"), edited,
    element("label", { for: comment.id }, "Comment (optional)"), comment,
    element("button", { type: "submit", class: "primary" }, "Send"));
}
