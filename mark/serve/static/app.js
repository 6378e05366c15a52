// Puts the page together.

import { api } from "./api.js";
import { askBox } from "./ask.js";
import { documentShelf } from "./documents.js";
import { byId, element, showLine } from "./dom.js";
import { History } from "./history.js";
import { sourceDialog } from "./source.js";
import { tabs } from "./tabs.js";

const TOKEN = /^[\x21-\x7e]{16,}$/;
const AUTO = "auto";

const past = new History((entry) => showAnswer(entry));
const showAnswer = askBox(api, sourceDialog(api), past);
const refreshDocuments = documentShelf(api);
const views = tabs(api);

wireTheme();
wireToken();
refresh();

/** What depends on the token: read at the start, and again with each new one. */
async function refresh() {
  await Promise.all([refreshModels(), refreshDocuments(), refreshReview()]);
}

async function refreshModels() {
  const models = await api.get("/v1/models").catch(() => null);
  if (models === null) return;
  const chosen = byId("model").value || AUTO;
  byId("model").replaceChildren(...models.data.map(({ id }) =>
    element("option", { value: id, selected: id === chosen }, id)));
}

/** Reviewing needs a token: without one the tab would only tell so. */
async function refreshReview() {
  const schema = api.hasToken ? await api.get("/openapi.json").catch(() => null) : null;
  views.show("review", schema !== null && "/v1/feedback/review" in schema.paths);
}

function wireToken() {
  const form = byId("token-form");
  api.events.addEventListener("token", ({ detail }) => {
    showLine(byId("token-fault"), detail.wrong ? "This is not the server's token." : "");
    if (!form.hidden) return;
    form.hidden = false;
    byId("token").focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = byId("token").value.trim();
    if (!TOKEN.test(given)) {
      showLine(byId("token-fault"), "A token has at least 16 characters of ASCII and no space.");
      return;
    }
    api.useToken(given);
    byId("token").value = "";
    form.hidden = true;
    showLine(byId("ask-fault"), "");
    await refresh();
    if (form.hidden) byId("question").focus();
  });
}

function wireTheme() {
  const button = byId("theme");
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("mark.theme", root.dataset.theme);
    } catch {
      // It holds until the page is reloaded.
    }
    show();
  });
  system.addEventListener("change", show);
  show();
}
