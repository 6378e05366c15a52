// The image of a page with the passage marked, in a dialog.

import { byId, element, pageName } from "./dom.js";

/**
 * Wire the dialog.
 * @param {Object} api
 * @returns {(place: Object) => Promise<void>} Shows a place: document, title, page, label, and span and text of a quote.
 */
export function sourceDialog(api) {
  const dialog = byId("source");
  let opened = new AbortController();
  const area = byId("source-page");
  const larger = byId("source-larger");
  larger.addEventListener("click", () => {
    larger.setAttribute("aria-pressed", String(area.classList.toggle("large")));
    scrollToMark(area);
  });
  byId("source-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => opened.abort());

  return async function show(place) {
    opened.abort();
    opened = new AbortController();
    const { signal } = opened;
    const name = `${place.title}, ${pageName(place.label, place.page)}`;
    byId("source-title").textContent = name;
    byId("source-line").textContent = "Drawing the page …";
    area.replaceChildren();
    if (!dialog.open) dialog.showModal();
    try {
      const response = await api.file(imagePath(place), signal);
      const image = await createImageBitmap(await response.blob());
      if (signal.aborted) return;
      byId("source-line").textContent = lineOf(place, response.headers.get("x-highlight"));
      area.replaceChildren(drawn(image, name));
      scrollToMark(area);
    } catch (fault) {
      if (!signal.aborted) byId("source-line").textContent = fault.message;
    }
  };
}

function imagePath(place) {
  const path = `/v1/documents/${encodeURIComponent(place.document)}/pages/${place.page}.png`;
  return place.span ? `${path}?start=${place.span[0]}&end=${place.span[1]}` : path;
}

function lineOf(place, highlight) {
  if (!place.span) return "One of the pages that the answer was made from.";
  return highlight === "found" ? "The quoted words are marked."
    : `The words could not be marked on this page; look for: “${place.text}”`;
}

/** A mark far down the page would be out of sight. */
function scrollToMark(area) {
  const canvas = area.querySelector("canvas");
  if (canvas) area.scrollTop = markedRow(canvas) * canvas.clientHeight - area.clientHeight / 4;
}

/** Where the yellow of the mark begins, as a share of the page's height; 0 where there is none. */
export function markedRow(canvas) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  for (let row = 0; row < height; row += 1) {
    let yellow = 0;
    for (let at = row * width * 4; at < (row + 1) * width * 4; at += 4) {
      if (data[at] - data[at + 2] > 80 && data[at + 1] - data[at + 2] > 60) yellow += 1;
    }
    if (yellow >= 6) return row / height;
  }
  return 0;
}

function drawn(image, name) {
  const canvas = element("canvas", { role: "img", "aria-label": name, width: image.width, height: image.height });
  canvas.getContext("2d").drawImage(image, 0, 0);
  image.close();
  return canvas;
}
