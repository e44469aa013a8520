// The server's API. Addresses are relative, so that the page works behind a proxy that adds a prefix.

/** What the server, or the way to it, refused: `status` is HTTP's, or 0 where no answer came. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function request(address, key, options = {}) {
  const headers = {
    ...(options.body && { "Content-Type": "application/json" }),
    ...(key && { Authorization: `Bearer ${key}` }),
  };
  let response;
  try {
    response = await fetch(address, { ...options, headers, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("", 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new ApiError(body.error?.message ?? response.statusText, response.status);
}

/** Names of the models that are served. */
export async function models(key) {
  const { data } = await (await request("v1/models", key)).json();
  return data.map((model) => model.id);
}

/** {state, progress}: how far the server is. It answers 503 while it loads. */
export async function health() {
  const response = await fetch("health", { credentials: "omit" });
  return response.json();
}

/** The chunks of the streamed answer to a body in JSON. Ends when `signal` aborts it with an AbortError. */
export async function* stream(body, key, signal) {
  const response = await request("v1/chat/completions", key, { method: "POST", body, signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, response.status);
    yield chunk;
  }
  throw new ApiError("", 0);
}

/** The data of each server-sent event of a body. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}
