// An answer as it is shown: its words, how far they are supported, and where they stand.

import { element, pageName } from "./dom.js";
import { judgement } from "./judgement.js";

/**
 * An answer with its quotes.
 * @param {Object} entry id, question, text, mark, judged.
 * @param {Object} actions `showSource(place)`, `send(judgement)`, `keep(entry)`.
 */
export function answerView(entry, actions) {
  const { mark } = entry;
  return element("article", { class: "said" },
    element("h2", { class: "asked" }, entry.question),
    mark.refused ? refusal() : element("p", { class: "answer-text" }, entry.text),
    mark.unsupported
      ? element("p", { class: "warning" },
        "Not word for word in the documents: check the source.")
      : null,
    mark.quotes.length ? quotes(mark.quotes, actions) : null,
    mark.passages.length && (mark.refused || mark.unsupported || !mark.quotes.length)
      ? passages(mark.passages, mark.unsupported, actions) : null,
    ...mark.notes.map((note) => element("p", { class: "note" }, note)),
    judgement(entry, actions),
    element("p", { class: "note" }, `Answered by ${mark.model}${seconds(mark.timings)}.`));
}

/** What is being written, before it is checked. */
export function draftView(text) {
  return element("div", { class: "draft" },
    element("p", { class: "draft-head" }, "Draft: not checked yet"),
    element("p", { class: "draft-text" }, text));
}

function refusal() {
  return element("div", { class: "refusal" },
    element("p", { class: "answer-text" }, "Not in these documents"),
    element("p", {}, "None of the passages that were found answers this question."));
}

function quotes(found, actions) {
  return element("section", { class: "quotes", "aria-label": "Quotes" },
    ...found.map((quote) => element("figure", { class: "quote" },
      element("blockquote", {}, quote.text),
      element("figcaption", {},
        element("div", { class: "where" },
          element("cite", {}, quote.title),
          element("span", { class: "page" }, pageName(quote.label, quote.page)),
          quote.heading ? element("span", { class: "heading" }, quote.heading) : null),
        pageButton(quote, "Show the page", actions)))));
}

function passages(found, open, actions) {
  return element("details", { class: "passages", open },
    element("summary", {}, open ? "Where to check" : "Where it looked"),
    element("ul", { class: "rows" }, ...found.map((passage) => element("li", { class: "passage" },
      element("span", { class: "row-main" }, passage.title),
      passage.heading ? element("span", { class: "row-sub" }, passage.heading) : null,
      element("span", { class: "pages" }, ...passage.pages.map((page) =>
        pageButton({ document: passage.document, title: passage.title, label: "", page }, `Page ${page}`, actions)))))));
}

function pageButton(place, label, actions) {
  return element("button", {
    type: "button", class: "quiet", "aria-label": `${label}: ${place.title}, ${pageName(place.label, place.page)}`,
    on: { click: () => actions.showSource(place) },
  }, label);
}

function seconds(timings) {
  return Number.isFinite(timings?.total) ? ` in ${timings.total.toFixed(1)} s` : "";
}
