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
const FORMS = {
  all: { label: "This server asks for its token", wrong: "This is not the server's token." },
  reviewers: { label: "Enter the reviewers' token", wrong: "This is not the reviewers' token." },
};

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

/** Reviewing needs a token. Where reviewers have one of their own the tab is where it is entered. */
async function refreshReview() {
  const access = await api.get("/v1/access").catch(() => null);
  if (access === null) return;
  api.reviewersApart = access.review_token;
  views.show("review", access.review_token || (access.reviews && api.hasToken));
}

function wireToken() {
  const form = byId("token-form");
  let asked = "all";
  api.events.addEventListener("token", ({ detail: { kind, wrong } }) => {
    if (!form.hidden && asked === "all") return; // without that one the other is of no use
    asked = kind;
    byId("token-label").textContent = FORMS[kind].label;
    showLine(byId("token-fault"), wrong ? FORMS[kind].wrong : "");
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
    api.useToken(asked, given);
    byId("token").value = "";
    form.hidden = true;
    showLine(byId("ask-fault"), "");
    await refresh();
    await views.reload();
    if (!form.hidden) return;
    const view = byId("panel-ask").hidden ? document.querySelector("[role=tabpanel]:not([hidden])") : byId("question");
    view.focus();
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
