// Text that strangers wrote, shown so that nothing in it hides.

import { element } from "./dom.js";

// Control and format characters (reversed text, zero-width spaces) but line breaks and tabs.
const HIDDEN = /(?![\t\n])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/**
 * An element with the text; each character that does not show is written as its code.
 * @param {string} text
 * @param {string} tag
 * @param {Object} attributes
 */
export function shown(text, tag = "span", attributes = {}) {
  const parent = element(tag, { dir: "auto", ...attributes });
  let from = 0;
  for (const found of text.matchAll(HIDDEN)) {
    parent.append(text.slice(from, found.index), code(found[0]));
    from = found.index + found[0].length;
  }
  parent.append(text.slice(from));
  return parent;
}

function code(character) {
  const name = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return element("code", { class: "hidden-character", title: "a character that does not show" }, `U+${name}`);
}
