// The documents that are answered from, and adding some.

import { byId, element } from "./dom.js";

const PATH = "/v1/documents";
const POLL_MS = 1500;

/**
 * Wire the list and the upload.
 * @param {Object} api
 * @returns {() => Promise<void>} Reads the list again.
 */
export function documentShelf(api) {
  let [timer, busy, adding, limit] = [0, false, Promise.resolve(), null];
  const ingest = element("p", { class: "note", hidden: true });
  const uploads = element("ul", { class: "uploads" });
  byId("upload-state").append(uploads, ingest);

  async function refresh() {
    clearTimeout(timer);
    try {
      show(await api.get(PATH));
    } catch (fault) {
      showIngest(fault.message, true);
    }
    if (busy) timer = setTimeout(refresh, POLL_MS);
  }

  function show({ data, ingest: { state, line }, max_upload_bytes: bytes }) {
    limit = bytes;
    byId("documents-count").textContent = String(data.length);
    byId("documents-list").replaceChildren(...data.map(row));
    const before = busy;
    busy = state === "running" || (state === "idle" && data.some(({ status }) => status === "queued"));
    if (state === "failed") showIngest(`Reading the new documents failed: ${line}`, true);
    else if (busy) showIngest(`Reading the new documents … ${line}`, false);
    else if (before) showIngest("The new documents are read: ask about them.", false);
    else ingest.hidden = true;
  }

  function showIngest(text, failed) {
    ingest.className = failed ? "fault" : "note";
    ingest.textContent = text;
    ingest.hidden = false;
  }

  /** One after the other: the server reads one upload at a time. */
  function add(files) {
    adding = adding.then(async () => {
      uploads.replaceChildren();
      if (limit === null) await refresh();
      for (const file of files) await addOne(file);
      await refresh();
    });
  }

  async function addOne(file) {
    const bar = element("progress", { max: "1", value: "0", "aria-label": `Sending ${file.name}` });
    const line = element("span", { class: "note" }, "sending …");
    uploads.append(element("li", {}, element("span", { class: "row-main" }, file.name), bar, line));
    try {
      // A server that refuses a body while it is sent closes the connection: the browser would tell only that.
      if (limit !== null && file.size > limit)
        throw new Error(`the file has ${file.size} bytes, ${limit} may be sent (serve.max_upload_mb)`);
      const kept = await api.upload(PATH, file, (share) => {
        bar.value = share;
        if (share === 1) line.textContent = "being checked …";
      });
      line.textContent = kept.status === "ready" ? "was here before" : "taken";
    } catch (fault) {
      line.className = "fault";
      line.textContent = fault.message;
    }
    bar.remove();
  }

  wirePicker(add);
  wireDrop(add);
  return refresh;
}

function wirePicker(add) {
  const picker = byId("upload-file");
  byId("upload").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    add([...picker.files]);
    picker.value = "";
  });
}

/** Files may be dropped anywhere; a browser would otherwise open them in place of the page. */
function wireDrop(add) {
  const target = byId("documents");
  const held = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!held(event)) return;
    event.preventDefault();
    target.classList.add("dropping");
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) target.classList.remove("dropping");
  });
  window.addEventListener("drop", (event) => {
    if (!held(event)) return;
    event.preventDefault();
    target.classList.remove("dropping");
    add([...event.dataTransfer.files]);
  });
}

function row({ id, status, title, pages, detail, sent_name: sent }) {
  const size = pages === null ? "" : pages === 1 ? "1 page" : `${pages} pages`;
  const state = { ready: size, queued: "waits to be read", left_out: `left out: ${detail}` }[status];
  return element("li", { class: `document ${status}` },
    element("span", { class: "row-main" }, title || id),
    element("span", { class: "row-sub" }, [state, sent === title ? "" : sent].filter(Boolean).join(" · ")));
}
