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
  let at = 0; // where the mark begins, as a share of the page's height
  larger.addEventListener("click", () => {
    larger.setAttribute("aria-pressed", String(area.classList.toggle("large")));
    scrollTo(area, at);
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
      at = Number(response.headers.get("x-highlight-at")); // 0 where there is none
      scrollTo(area, at);
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
function scrollTo(area, at) {
  const canvas = area.querySelector("canvas");
  if (canvas) area.scrollTop = at * canvas.clientHeight - area.clientHeight / 4;
}

function drawn(image, name) {
  const canvas = element("canvas", { role: "img", "aria-label": name, width: image.width, height: image.height });
  canvas.getContext("2d").drawImage(image, 0, 0);
  image.close();
  return canvas;
}
