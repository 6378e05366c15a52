// Calls of this page's own server. Each failure is an Error with one line to show.

import { readEvents } from "./events.js";
import { Kept } from "./storage.js";

const REVIEWS = /^\/v1\/feedback\/(inbox|review)\b/;
const tokens = {
  all: new Kept(() => sessionStorage, "mark.token"),
  reviewers: new Kept(() => sessionStorage, "mark.review-token"),
};
export const UNREACHABLE = "The server cannot be reached. Is `mark serve` still running?";

/** A call that failed: its message is one line, `status` is 0 where no answer came, `param` what it is about. */
export class ApiError extends Error {
  constructor(message, status, param = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

export const api = {
  /** Fires `token` with `kind` (all, reviewers) and `wrong`: a call was refused for want of the right token. */
  events: new EventTarget(),

  /** Whether reviewers have a token of their own; else everybody's is sent for reviews too. */
  reviewersApart: false,

  get hasToken() {
    return tokens.all.value !== null;
  },

  /** Send this token of a kind from now on; null forgets it. */
  useToken(kind, value) {
    tokens[kind].set(value);
  },

  async get(path, signal) {
    return (await call("GET", path, { signal })).json();
  },

  async post(path, body) {
    return (await send(path, body)).json();
  },

  async blob(path) {
    return (await this.file(path)).blob();
  },

  /** The response itself, for a body with telling headers. */
  async file(path, signal) {
    return call("GET", path, { signal });
  },

  /** The server-sent events of a POST, each parsed. */
  async *stream(path, body, signal) {
    const response = await send(path, body, signal);
    for await (const event of readEvents(response.body)) {
      if (event.error) throw new ApiError(event.error.message, response.status);
      yield event;
    }
  },

  /**
   * Send a file as the multipart field `file`.
   * @param {(share: number) => void} progress Called with 0 to 1.
   */
  upload(path, file, progress) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", path);
      for (const [name, value] of Object.entries(authorization(path))) request.setRequestHeader(name, value);
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) progress(event.loaded / event.total);
      });
      request.addEventListener("error", () => reject(new ApiError(UNREACHABLE, 0)));
      request.addEventListener("load", () => {
        if (request.status >= 300) {
          reject(refused(path, request.status, request.responseText));
          return;
        }
        try {
          resolve(JSON.parse(request.responseText));
        } catch {
          reject(new ApiError("The server's answer cannot be read; look into the list of documents.", request.status));
        }
      });
      const form = new FormData();
      form.append("file", file);
      request.send(form);
    });
  },
};

function send(path, body, signal) {
  return call("POST", path, {
    body: JSON.stringify(body),
    headers: { "content-type": "application/json" },
    signal,
  });
}

async function call(method, path, { headers = {}, body, signal }) {
  let response;
  try {
    response = await fetch(path, { method, headers: { ...headers, ...authorization(path) }, body, signal });
  } catch (fault) {
    throw fault.name === "AbortError" ? fault : new ApiError(UNREACHABLE, 0);
  }
  if (!response.ok) throw refused(path, response.status, await response.text());
  return response;
}

function kindOf(path) {
  return api.reviewersApart && REVIEWS.test(path) ? "reviewers" : "all";
}

function authorization(path) {
  const token = tokens[kindOf(path)].value ?? tokens.all.value;
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

function refused(path, status, body) {
  if (status === 401) {
    const kind = kindOf(path);
    api.events.dispatchEvent(new CustomEvent("token", { detail: { kind, wrong: tokens[kind].value !== null } }));
    return new ApiError(kind === "all" ? "The token is missing or wrong: enter it above."
      : "Only reviewers may see this: enter their token above.", status);
  }
  try {
    const { message, param } = JSON.parse(body).error;
    return new ApiError(message, status, param);
  } catch {
    // Something between here and the server answered: the status is all there is to tell.
    return new ApiError(`The server answered ${status} without a reason.`, status);
  }
}
