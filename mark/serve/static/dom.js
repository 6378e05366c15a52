// Elements from plain values: text becomes a text node, never markup.

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} tag
 * @param {Object} attributes `on` holds listeners by event; true sets an empty attribute; null and false set none.
 * @param {...(Node|string|null)} children null is left out.
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (value !== null && value !== false) {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon drawn by one path in a field of 24 by 24; what it means is told by what holds it. */
export function icon(path) {
  const drawing = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "path");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  drawing.append(line);
  return drawing;
}

/** Show a line, or hide the element where there is none. */
export function showLine(target, text) {
  target.textContent = text;
  target.hidden = text === "";
}

/** Where a passage stands: the printed page, and the sheet of the PDF where that is another number. */
export function pageName(label, page) {
  return label === "" || label === String(page) ? `page ${page}` : `page ${label} (PDF page ${page})`;
}
