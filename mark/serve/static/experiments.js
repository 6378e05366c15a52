// The Experiments tab: the verdict of the last run, the table that it rests on, and its curves.

import { barChart, lineChart, number, percent, whole } from "./charts.js";
import { element } from "./dom.js";
import { METRICS, choose, folded, gains, grid, row, section, table } from "./tables.js";

const GROUPS = { handwritten: "Hand-written questions", rule_made: "Rule-made questions" };
const ARMS = {
  base: "base",
  sft: "fine-tuned",
  sft_continued: "fine-tuned for longer",
  rlhf: "fine-tuned, then RLHF",
};
const ONLINE = ["grpo", "rloo"]; // they ask questions and need no preferences
const TABLE_ROWS = 25; // of one curve

/**
 * Fill the tab.
 * @param {HTMLElement} host
 * @param {Object} api As of api.js.
 */
export async function mount(host, api) {
  host.replaceChildren(element("p", { role: "status" }, "Reading the last run …"));
  try {
    const run = await api.get("/v1/experiments");
    host.replaceChildren(element("div", { class: "experiments" }, ...parts(run)));
  } catch (fault) {
    host.replaceChildren(element("p", { role: "alert", class: "fault" }, fault.message));
  }
}

function parts(run) {
  const found = [run.comparison ? verdict(run.comparison) : nothing()];
  found.push(champion(run.champion));
  if (run.comparison) found.push(...comparison(run.comparison));
  if (run.rlhf) found.push(rlhf(run.rlhf));
  found.push(...run.entries.map(curves), notes(run.notes));
  return found.filter(Boolean);
}

function nothing() {
  return section(
    "No comparison yet",
    element("p", {}, "Run ", element("code", {}, "make repro"), " to make one."),
  );
}

function verdict(found) {
  const kind = found.judged_on === "handwritten" ? "hand-written " : "";
  const sentences = found.judged.map((one) =>
    element(
      "p",
      { class: "verdict" },
      element("span", { class: `verdict-word verdict-${one.verdict.replace(/[^a-z]/g, "")}` }, one.verdict),
      `: ${one.reason} `,
      element("span", { class: "verdict-entry" }, one.entry),
    ),
  );
  return element(
    "section",
    { "aria-label": "Verdict" },
    ...sentences,
    element(
      "p",
      {},
      found.best
        ? `Best shown: ${found.best}.`
        : "No entry is shown to be better than all that it was compared with.",
    ),
    element(
      "p",
      { class: "note" },
      `Judged on ${found.questions} ${kind}questions, ${found.clusters} clusters of answerable ones. `,
      seen(found),
    ),
  );
}

function seen(found) {
  const parts = Object.entries(found.seen_in_training).map(
    ([name, count]) => `${name} ${count || "0 (unseen)"}`,
  );
  return parts.length
    ? `Training questions on the tested documents, never on a tested section: ${parts.join(", ")}.`
    : "";
}

function champion(found) {
  if (!found)
    return element(
      "p",
      { class: "note" },
      "No champion yet: ",
      element("code", {}, "mark models promote"),
      " makes one.",
    );
  const forced = found.forced ? " (past the gate)" : "";
  return element(
    "p",
    { class: "note" },
    "Champion: ",
    element("strong", {}, found.entry),
    `, since ${found.at.slice(0, 10)}${forced}; ${found.reason}`,
  );
}

function comparison(found) {
  const groups = Object.keys(GROUPS).filter((group) => found.bars.some((row) => row.questions === group));
  const strong = new Set(found.judged.map((one) => `${one.entry} + retrieval`));
  return [
    section("Models beside each other", metricChart(found.bars, groups, strong)),
    section(
      "Table",
      element("p", { class: "note" }, "Percent, with the interval below. Best sentence: no model."),
      ...groups.map((group) => groupTable(found, group, strong)),
    ),
    section(
      "Gains in token F1",
      gains(found.judged.flatMap((one) => one.gains.map((gain) => [`${one.entry} + retrieval`, gain]))),
    ),
    found.unseen.length ? unseen(found) : null,
  ];
}

function unseen(found) {
  const description = `${found.unseen_questions} questions on documents that training has not seen`;
  return section(
    "Unseen documents alone",
    barChart({
      title: description,
      description: sentence(found.unseen),
      rows: found.unseen,
      axis: "token F1, percent",
    }),
  );
}

function groupTable(found, group, strong) {
  const rows = found.bars.filter((row) => row.questions === group);
  const labels = found.models.filter((label) => rows.some((row) => row.label === label));
  return table(GROUPS[group], rows, labels, strong);
}

function metricChart(bars, groups, strong) {
  const there = Object.keys(METRICS).filter((name) => bars.some((row) => row.metric === name));
  const place = element("div", { class: "chart-pair" });
  const draw = (metric) => {
    const charts = groups.map((group) => {
      const rows = bars
        .filter((row) => row.metric === metric && row.questions === group)
        .map((row) => ({ ...row, strong: strong.has(row.label) }));
      const title = `${GROUPS[group]}: ${METRICS[metric]}`;
      return rows.length
        ? barChart({ title, description: sentence(rows), rows, axis: `${METRICS[metric]}, percent` })
        : null;
    });
    place.replaceChildren(...charts.filter(Boolean));
  };
  const chooser = choose(
    "Metric",
    there.map((name) => [name, METRICS[name]]),
    draw,
  );
  draw(there[0]);
  return element("div", {}, chooser, place);
}

function rlhf(found) {
  const judged =
    found.questions === null
      ? ""
      : ` Judged on ${found.questions} questions, ${found.clusters} clusters of answerable ones.`;
  const what = ONLINE.includes(found.method) ? "questions" : "preferences";
  const kept = found.kept === "rlhf" ? "RLHF is kept" : "The fine-tuned model is kept";
  const named = (arm) => ARMS[arm] ?? arm;
  const frontier = grouped(found.frontier, (point) => named(point.arm)).map(([name, all]) => ({
    name,
    points: all.map((point) => ({
      x: point.kl,
      y: point.reward,
      label: `step ${point.step}: KL ${number(point.kl)}, reward ${percent(point.reward)}`,
    })),
  }));
  const arms = found.arms.map((row) => ({ ...row, label: named(row.label) }));
  return section(
    "RLHF",
    element(
      "p",
      {},
      element("strong", {}, `${kept} (${found.verdict}): `),
      `${found.reason}. By ${found.method}, ${found.pairs} ${what}, ${found.steps} steps.${judged}`,
    ),
    frontier.length
      ? curve({
          title: "Validation reward against distance from the fine-tuned model",
          series: frontier,
          xAxis: "KL to the fine-tuned model, nats an answer",
          yAxis: "reward, percent",
          factor: 100,
        })
      : null,
    arms.length ? armChart(arms) : null,
    found.gains.length
      ? folded(
          "Gains of RLHF",
          gains(found.gains.map((gain) => ["RLHF", { ...gain, over: named(gain.over) }])),
        )
      : null,
  );
}

function armChart(arms) {
  const place = element("div");
  const there = Object.keys(METRICS).filter((name) => arms.some((row) => row.metric === name));
  const draw = (metric) => {
    const rows = arms.filter((row) => row.metric === metric);
    place.replaceChildren(
      barChart({
        title: `Ways of training, on the test questions: ${METRICS[metric]}`,
        description: sentence(rows),
        rows,
        axis: `${METRICS[metric]}, percent`,
      }),
    );
  };
  draw(there[0]);
  const labels = [...new Set(arms.map((row) => row.label))];
  return element(
    "div",
    {},
    choose(
      "Metric of the ways of training",
      there.map((name) => [name, METRICS[name]]),
      draw,
    ),
    place,
    folded("As a table", table("Ways of training, percent", arms, labels, new Set())),
  );
}

function curves(entry) {
  const drawn = [training(entry), reward(entry), refusal(entry)].filter(Boolean);
  return drawn.length ? section(entry.entry, ...drawn) : null;
}

function training(entry) {
  const rows = entry.training.filter((point) => point.loss !== null);
  const series = grouped(rows, (point) => point.split ?? "loss").map(([name, all]) => ({
    name: { train: "training", val: "validation" }[name] ?? name,
    points: all.map((point) => ({
      x: point.step,
      y: point.loss,
      label: `step ${point.step}: ${number(point.loss)}`,
    })),
  }));
  return series.length
    ? curve({ title: "Training and validation loss", series, xAxis: "optimiser step", yAxis: "loss" })
    : null;
}

function reward(entry) {
  const rows = entry.training.filter((point) => point.val_reward !== null);
  const all = rows.map((point) => ({
    x: point.step,
    y: point.val_reward,
    label: `step ${point.step}: ${percent(point.val_reward)}`,
  }));
  return all.length
    ? curve({
        title: "Validation reward while RLHF trains",
        series: [{ name: "reward", points: all }],
        xAxis: "optimiser step",
        yAxis: "reward, percent",
        factor: 100,
      })
    : null;
}

function refusal(entry) {
  if (!entry.refusal.length) return null;
  const names = { mean_f1: "mean F1", refusal_recall: "refusal recall", false_refusals: "false refusals" };
  const place = element("div");
  const draw = (metric) => {
    const series = grouped(entry.refusal, (point) => point.model).map(([name, all]) => ({
      name: name.replaceAll("_", " + "),
      points: all.map((point) => ({ x: point.threshold, y: point[metric] })).sort((a, b) => a.x - b.x),
    }));
    place.replaceChildren(
      curve({
        title: `Refusal threshold on validation: ${names[metric]}`,
        series,
        xAxis: "refused from this probability on",
        yAxis: `${names[metric]}, percent`,
        factor: 100,
        markers: false,
      }),
    );
  };
  draw("mean_f1");
  return element("div", {}, choose(`Curve of ${entry.entry}`, Object.entries(names), draw), place);
}

function curve(chart) {
  const told = chart.series.map(
    (one) => `${one.name}: ${one.points.length} points, last ${number(one.points.at(-1).y)}`,
  );
  const lines = chart.series.flatMap((one) =>
    thinned(one.points).map((point) => row(one.name, number(point.x), number(point.y))),
  );
  return element(
    "div",
    {},
    lineChart({ ...chart, description: told.join("; ") }),
    folded("As a table", grid(chart.title, ["", chart.xAxis, chart.yAxis.replace(", percent", "")], lines)),
  );
}

function thinned(all) {
  if (all.length <= TABLE_ROWS) return all;
  return Array.from(
    { length: TABLE_ROWS },
    (_, i) => all[Math.round((i * (all.length - 1)) / (TABLE_ROWS - 1))],
  );
}

function notes(lines) {
  if (!lines.length) return null;
  return section(
    "Not shown",
    element("ul", { class: "note" }, ...lines.map((line) => element("li", {}, line))),
  );
}

function sentence(rows) {
  return rows
    .map((one) => `${one.label} ${percent(one.value)} (${whole(one.low)} to ${whole(one.high)})`)
    .join("; ");
}

function grouped(rows, key) {
  const found = new Map();
  for (const one of rows) found.set(key(one), [...(found.get(key(one)) ?? []), one]);
  return [...found];
}

