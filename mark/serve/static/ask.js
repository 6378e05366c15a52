// The ask box and the answer that streams in below it.

import { answerView, draftView } from "./answer.js";
import { byId, element, showLine } from "./dom.js";

/**
 * Wire the ask box.
 * @param {Object} api
 * @param {(place: Object) => void} showSource
 * @param {History} past Keeps the answers.
 * @returns {(entry: Object) => void} Shows an earlier answer.
 */
export function askBox(api, showSource, past) {
  const question = byId("question");
  const area = byId("answer");
  const actions = {
    showSource,
    keep: (entry) => past.update(entry),
    send: (judged) => api.post("/v1/feedback", judged),
  };
  let asking = null;

  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  byId("cancel").addEventListener("click", cancel);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("source").open) cancel();
  });

  function show(entry) {
    cancel();
    asking = null;
    busy(false);
    showLine(byId("ask-fault"), "");
    area.replaceChildren(answerView(entry, actions));
    area.scrollIntoView({ block: "nearest" });
  }

  function cancel() {
    asking?.abort();
  }

  async function ask() {
    const asked = question.value.trim();
    if (asking || !asked) return;
    const mine = new AbortController();
    asking = mine;
    busy(true);
    showLine(byId("ask-fault"), "");
    try {
      const entry = await streamed(api, { asked, model: byId("model").value, area, signal: mine.signal });
      past.add(entry);
      if (asking === mine) area.replaceChildren(answerView(entry, actions));
      if (question.value.trim() === asked) question.value = "";
    } catch (fault) {
      if (asking !== mine) return; // an earlier answer is shown in its place
      area.replaceChildren();
      showLine(byId("ask-fault"), fault.name === "AbortError" ? "Cancelled." : fault.message);
    } finally {
      if (asking === mine) {
        asking = null;
        busy(false);
      }
    }
  }

  /** Ask and Cancel take turns; the focus goes along, since a hidden button would lose it. */
  function busy(on) {
    area.setAttribute("aria-busy", String(on));
    const gone = document.activeElement === byId(on ? "ask" : "cancel");
    byId("ask").hidden = on;
    byId("cancel").hidden = !on;
    if (gone) (on ? byId("cancel") : question).focus();
  }

  return show;
}

async function streamed(api, { asked, model, area, signal }) {
  const words = element("p", { class: "answer-text" });
  const body = element("div", { class: "writing" }, element("p", { class: "note waiting" }, "Reading the documents …"));
  area.replaceChildren(element("article", { class: "said" }, element("h2", { class: "asked" }, asked), body));
  const request = { model, stream: true, mark: { draft: true }, messages: [{ role: "user", content: asked }] };
  let [id, draft, text, mark] = ["", "", "", null];
  for await (const chunk of api.stream("/v1/chat/completions", request, signal)) {
    const piece = chunk.choices[0]?.delta.content;
    if (chunk.mark?.draft === null) {
      body.replaceChildren(element("p", { class: "note waiting" }, "Others are asking: no draft. Writing the answer …"));
    } else if (chunk.mark?.draft !== undefined) {
      draft += chunk.mark.draft;
      body.replaceChildren(draftView(draft));
    } else if (chunk.mark) {
      [id, mark] = [chunk.id, chunk.mark];
    }
    if (piece) {
      text += piece;
      words.append(piece);
      if (!words.isConnected) body.replaceChildren(words);
    }
  }
  return { id, question: asked, text, mark, at: Date.now(), judged: null };
}
