// Charts in SVG: bars with intervals, and lines. A new width draws them anew, so that text keeps its size.

import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const LINE = 16; // height of a line of text, px
const LETTER = 7.2; // width of a letter, px, at most for most of them
const NARROW = 560;
let numbered = 0;

/**
 * Bars with intervals.
 * @param {Object} chart `rows` are { label, value, low, high, strong }; fractions are shown in percent.
 */
export function barChart({ title, description, rows, axis }) {
  const top = niceTop(Math.max(...rows.map((row) => row.high), 0.01));
  return figure(title, description, (width) => {
    const beside = width >= NARROW;
    const left = beside ? 250 : 1;
    const right = width - (beside ? 150 : 8);
    const step = beside ? 30 : 46;
    const height = rows.length * step + 48;
    const x = scale(0, top, left, right);
    const bars = rows.map((row, i) => barRow(row, x, i * step + 6, { beside, left, width }));
    return [height, ...axisBelow(x, height - 44, axis, 100), ...bars];
  });
}

function barRow(row, x, y, { beside, left, width }) {
  const bar = y + (beside ? 3 : LINE + 4);
  const middle = bar + 8;
  const told = `${percent(row.value)} (${whole(row.low)} to ${whole(row.high)})`;
  const shape = row.value >= 0 ? [x(0), x(row.value)] : [x(row.value), x(0)];
  return svg(
    "g",
    { class: row.strong ? "bar-row strong" : "bar-row" },
    svg("title", {}, `${row.label}: ${told}`),
    text(
      fitted(row.label, beside ? left - 12 : width - told.length * LETTER - 12),
      beside ? left - 10 : left,
      beside ? middle + 4 : y + 12,
      beside ? "end" : "start",
    ),
    text(told, width - 2, beside ? middle + 4 : y + 12, "end", "value"),
    svg("rect", { class: "bar", x: shape[0], y: bar, width: Math.max(shape[1] - shape[0], 1), height: 16 }),
    svg("path", {
      class: "whisker",
      d: `M${x(row.low)} ${middle}H${x(row.high)}M${x(row.low)} ${bar + 3}v10M${x(row.high)} ${bar + 3}v10`,
    }),
  );
}

/**
 * Lines.
 * @param {Object} chart `series` are { name, points: [{ x, y, label }] } in drawing order; `factor` scales
 *   the numbers at the y axis; without `markers` only single points have one.
 */
export function lineChart({ title, description, series, xAxis, yAxis, factor = 1, markers = true }) {
  const points = series.flatMap((one) => one.points);
  const xs = bounds(points.map((point) => point.x));
  const ys = bounds(points.map((point) => point.y));
  return figure(
    title,
    description,
    (width) => {
      const height = 300;
      const x = scale(...xs, 50, width - 14);
      const y = scale(...ys, height - 44, 28);
      return [
        height,
        ...axisBelow(x, height - 44, xAxis, 1),
        ...axisLeft(y, 50, width - 14, yAxis, factor),
        ...series.map((one, i) => line(one, i, x, y, markers)),
      ];
    },
    legend(series),
  );
}

function line(one, number, x, y, markers) {
  const path = one.points.map(
    (point, i) => `${i ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`,
  );
  const marks = one.points.map((point) =>
    svg(
      "path",
      { class: "marker", d: marker(number, x(point.x), y(point.y)) },
      svg("title", {}, `${one.name}: ${point.label ?? `${point.x}, ${point.y}`}`),
    ),
  );
  const drawn = markers || one.points.length === 1;
  const curve = svg("path", { class: "line", d: path.join("") });
  return svg("g", { class: `series-${number % 6}` }, curve, ...(drawn ? marks : []));
}

function legend(series) {
  const key = (number) =>
    svg(
      "svg",
      { width: 34, height: 14, class: `series-${number % 6}`, "aria-hidden": "true" },
      svg("path", { class: "line", d: "M1 7H33" }),
      svg("path", { class: "marker", d: marker(number, 17, 7) }),
    );
  const names = series.map((one, number) => element("li", {}, key(number), one.name));
  return element("ul", { class: "chart-legend" }, ...names);
}

function marker(number, x, y) {
  const [a, b] = [x.toFixed(1), y.toFixed(1)];
  return [
    `M${a} ${b}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0`,
    `M${a} ${b}m-4 -4h8v8h-8z`,
    `M${a} ${b}m0 -5l5 9h-10z`,
    `M${a} ${b}m0 -5l5 5l-5 5l-5 -5z`,
  ][number % 4];
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function figure(title, description, draw, below = null) {
  const name = `chart-${(numbered += 1)}`;
  const canvas = svg("svg", { class: "chart", role: "img", "aria-labelledby": `${name}-t ${name}-d` });
  const made = element("figure", { class: "chart-figure" }, element("figcaption", {}, title), canvas, below);
  let drawn = 0;
  const redraw = () => {
    const width = Math.max(Math.floor(made.clientWidth), 260);
    if (width === drawn) return;
    drawn = width;
    const [height, ...shapes] = draw(width);
    canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
    canvas.setAttribute("width", width);
    canvas.setAttribute("height", height);
    const told = [svg("title", { id: `${name}-t` }, title), svg("desc", { id: `${name}-d` }, description)];
    canvas.replaceChildren(...told, ...shapes);
  };
  new ResizeObserver(redraw).observe(made);
  return made;
}

function axisBelow(x, y, title, factor) {
  const ticks = niceTicks(...x.domain, 5).map((value) =>
    svg(
      "g",
      {},
      svg("path", { class: "grid", d: `M${x(value)} ${y}V0` }),
      text(number(value * factor), x(value), y + 16, "middle", "tick"),
    ),
  );
  const [left, right] = x.range;
  return [
    ...ticks,
    svg("path", { class: "axis", d: `M${left} ${y}H${right}` }),
    text(title, (left + right) / 2, y + 36, "middle", "axis-title"),
  ];
}

function axisLeft(y, left, right, title, factor) {
  const ticks = niceTicks(...y.domain, 5).map((value) =>
    svg(
      "g",
      {},
      svg("path", { class: "grid", d: `M${left} ${y(value)}H${right}` }),
      text(number(value * factor), left - 7, y(value) + 4, "end", "tick"),
    ),
  );
  return [...ticks, text(title, 2, 12, "start", "axis-title")];
}

function text(content, x, y, anchor, kind = "label") {
  return svg("text", { x, y, "text-anchor": anchor, class: kind }, content);
}

function fitted(label, width) {
  const letters = Math.max(Math.floor(width / LETTER), 8);
  return label.length > letters ? `${label.slice(0, letters - 1)}…` : label;
}

function scale(low, high, from, to) {
  const found = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  return Object.assign(found, { domain: [low, high], range: [from, to] });
}

function bounds(values) {
  const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low >= 0 ? Math.max(low - room, 0) : low - room, high + room];
}

function niceTicks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((size) => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}

function niceTop(high) {
  return Math.min(Math.ceil(high * 10) / 10, Math.max(1, high));
}

/** Three digits. */
export function number(value) {
  return String(Number(value.toPrecision(3)));
}

/** A fraction in percent. */
export function percent(value) {
  return (100 * value).toFixed(1);
}

/** A fraction in whole percent. */
export function whole(value) {
  return (100 * value).toFixed(0);
}

/** A difference of fractions in points, with its sign. */
export function points(value) {
  return `${value < 0 ? "−" : "+"}${percent(Math.abs(value))}`;
}
