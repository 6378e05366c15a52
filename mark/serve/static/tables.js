// Tables, headings and lists to choose from.

import { percent, points, whole } from "./charts.js";
import { element } from "./dom.js";

/** Names of metrics, in the order in which they are shown. */
export const METRICS = {
  token_f1: "token F1",
  exact_match: "exact match",
  f1_if_answered: "F1 if answered",
  rouge_l: "ROUGE-L",
  bleu: "BLEU",
  refusal_recall: "refusal recall",
  false_refusals: "false refusals",
  quote_correct: "right quote",
  reward: "reward",
  similarity: "similarity",
};

/** A part of the page under a heading. */
export function section(title, ...children) {
  return element("section", {}, element("h2", {}, title), ...children);
}

/** What is shown when it is asked for. */
export function folded(title, ...children) {
  return element("details", {}, element("summary", {}, title), ...children);
}

/** A list to choose from; `changed` is called with the chosen value. */
export function choose(label, options, changed) {
  const list = element(
    "select",
    { on: { change: () => changed(list.value) } },
    ...options.map(([value, name]) => element("option", { value }, name)),
  );
  return element("label", { class: "chooser" }, `${label} `, list);
}

/** Bars as a table: a row for each label, a column for each metric, the interval below. */
export function table(title, rows, labels, strong) {
  const metrics = Object.keys(METRICS).filter((name) => rows.some((row) => row.metric === name));
  const cell = (label, metric) => {
    const row = rows.find((one) => one.label === label && one.metric === metric);
    if (!row) return element("td", {}, "–");
    return element(
      "td",
      {},
      percent(row.value),
      element("span", { class: "interval" }, `${whole(row.low)} to ${whole(row.high)}`),
    );
  };
  const lines = labels.map((label) =>
    element(
      "tr",
      { class: strong.has(label) ? "strong" : null },
      element("th", { scope: "row" }, label),
      ...metrics.map((metric) => cell(label, metric)),
    ),
  );
  return grid(title, ["", ...metrics.map((name) => METRICS[name])], lines);
}

/** Paired differences: `pairs` are [name, gain]. */
export function gains(pairs) {
  const lines = pairs.map(([name, gain]) =>
    row(
      name,
      gain.over,
      METRICS[gain.metric] ?? gain.metric,
      points(gain.difference),
      `${points(gain.low)} to ${points(gain.high)}`,
      percent(gain.smallest_detectable),
    ),
  );
  return grid(
    "Paired differences in points",
    ["Of", "over", "in", "gain", "interval", "smallest visible"],
    lines,
  );
}

/** A row of `grid`. */
export function row(name, ...cells) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, name),
    ...cells.map((cell) => element("td", {}, cell)),
  );
}

/** A table that scrolls by itself where it is too wide. */
export function grid(caption, heads, lines) {
  const head = element(
    "thead",
    {},
    element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name))),
  );
  const made = element("table", {}, element("caption", {}, caption), head, element("tbody", {}, ...lines));
  return element("div", { class: "wide", role: "region", tabindex: "0", "aria-label": caption }, made);
}
