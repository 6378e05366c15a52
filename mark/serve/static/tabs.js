// The views of the page; what a view needs is loaded when it is first opened.

import { UNREACHABLE } from "./api.js";
import { byId, element } from "./dom.js";

const NAMES = ["ask", "experiments", "review"];
const LOADED = ["experiments", "review"];

/**
 * Wire the tabs; the open one stands in the address, so that reloading and going back keep it.
 * @param {Object} api Handed to the views.
 * @returns {{show: (name: string, usable: boolean) => void, reload: () => Promise<void>}} Shows or hides a tab;
 *   loads the open view again, and the others when they are next opened.
 */
export function tabs(api) {
  const opened = new Set();
  let current = NAMES[0];
  const usable = (name) => NAMES.includes(name) && !byId(`tab-${name}`).hidden;
  const wanted = () => location.hash.slice(1) || NAMES[0];

  for (const name of NAMES) {
    byId(`tab-${name}`).addEventListener("click", () => go(name));
    byId(`tab-${name}`).addEventListener("keydown", (event) => step(event, name));
  }
  window.addEventListener("hashchange", () => open(wanted()));
  open(wanted());

  function go(name) {
    history.pushState(null, "", `#${name}`);
    open(name);
  }

  function step(event, name) {
    const seen = NAMES.filter(usable);
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const next = seen.at((seen.indexOf(name) + move) % seen.length);
    byId(`tab-${next}`).focus();
    go(next);
  }

  function open(name) {
    const chosen = usable(name) ? name : NAMES[0];
    current = chosen;
    for (const each of NAMES) {
      const tab = byId(`tab-${each}`);
      tab.setAttribute("aria-selected", String(each === chosen));
      tab.tabIndex = each === chosen ? 0 : -1;
      byId(`panel-${each}`).hidden = each !== chosen;
    }
    if (LOADED.includes(chosen) && !opened.has(chosen)) {
      opened.add(chosen);
      load(chosen, api);
    }
  }

  return {
    show(name, on) {
      byId(`tab-${name}`).hidden = !on;
      open(wanted());
    },
    async reload() {
      opened.clear();
      if (!LOADED.includes(current)) return;
      opened.add(current);
      await load(current, api);
    },
  };
}

async function load(name, api) {
  const place = element("div", { class: "view" });
  const reload = element("button", { type: "button", class: "quiet", on: { click: () => load(name, api) } }, "Reload");
  byId(`panel-${name}`).replaceChildren(element("div", { class: "view-head" }, reload), place);
  try {
    const view = await import(`./${name}.js`);
    await view.mount(place, api);
  } catch (fault) {
    const lost = fault instanceof TypeError && fault.message.includes("import");
    place.replaceChildren(element("p", { class: "fault", role: "alert" }, lost ? UNREACHABLE : fault.message));
  }
}
