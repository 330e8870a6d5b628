// The server's OpenAI API: its models, and an answer as a stream of chunks. Knows no page.

// What went wrong as a sentence; `status` is HTTP's, 0 where no answer came; `wait` in seconds, where the server said.
export class ApiError extends Error {
  constructor(sentence, status = 0, wait = 0) {
    super(sentence);
    this.status = status;
    this.wait = wait;
  }
}

// For as long as the tab lives; a key is not left lying in the browser.
const KEY = "chatcli.key";
export const setKey = (key) => sessionStorage.setItem(KEY, key);
const authorization = () => {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
};

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...authorization() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const said = await response.json().catch(() => ({}));
  const text = said.error?.message ?? `The server answered ${response.status} ${response.statusText}`.trim() + ".";
  const wait = parseInt(response.headers.get("Retry-After")) || 0;
  if (response.status !== 429) return new ApiError(text, response.status, wait);
  const when = wait ? `in ${wait} second${wait === 1 ? "" : "s"}` : "in a moment";
  return new ApiError(`The server is busy: try again ${when}.`, 429, wait);
}

// Those that chat.
export async function models() {
  const found = await (await request("v1/models")).json();
  return found.data.filter((model) => model.type !== "embeddings").map((model) => model.id);
}

// Every chunk of the answer to `body`, as an object. Aborting `signal` frees the model at once.
export async function* chat(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  let finished = false;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") {
      finished = true;
      continue; // to the end of the connection, so that it can be used again
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message ?? "The server failed in mid-answer.", 500);
    finished ||= Boolean(chunk.choices?.[0]?.finish_reason);
    yield chunk;
  }
  if (!finished) throw new ApiError("The connection ended in mid-answer.");
}

// The data of each server-sent event. Characters and lines may be cut anywhere between two reads.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      throw error.name === "AbortError" ? error : new ApiError("The connection broke in mid-answer.");
    }
    if (part.done) return;
    text += part.value;
    const whole = text.split(/\r?\n\r?\n/);
    text = whole.pop();
    for (const event of whole) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (data.length) yield data.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}
