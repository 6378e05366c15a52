// Server-sent events, however the network cuts them.

/**
 * The JSON of each `data:` line, up to `[DONE]`; comments are passed over.
 * @param {ReadableStream<Uint8Array>} body
 * @throws {Error} The stream ends before `[DONE]`.
 */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let left = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("The connection ended before the answer was complete. Ask again.");
      const lines = (left + decoder.decode(value, { stream: true })).split("\n");
      left = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ")) continue;
        const data = line.slice(6).trimEnd();
        if (data === "[DONE]") return;
        yield JSON.parse(data);
      }
    }
  } catch (fault) {
    throw fault instanceof TypeError ? new Error("The connection was lost. Ask again.") : fault;
  } finally {
    reader.cancel().catch(() => {});
  }
}
