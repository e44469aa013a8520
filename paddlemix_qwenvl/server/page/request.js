// A conversation as the body of a request.

import { dataUri } from "./media.js";

/** The body for the answer at `turns[end]`. `write(medium, number)` gives each picture's or video's address. */
export function requestBody(conversation, end, settings, model, write) {
  let number = 0;
  const messages = settings.system ? [{ role: "system", content: settings.system }] : [];
  for (const turn of conversation.turns.slice(0, end)) {
    if (turn.role === "assistant") messages.push({ role: "assistant", content: turn.text });
    else if (!turn.media.length) messages.push({ role: "user", content: turn.text });
    else {
      const parts = turn.media.map((medium) => ({
        type: `${medium.kind}_url`,
        [`${medium.kind}_url`]: { url: write(medium, (number += 1)) },
      }));
      messages.push({ role: "user", content: turn.text ? [...parts, { type: "text", text: turn.text }] : parts });
    }
  }
  const { min_pixels, max_pixels } = settings;
  const pixels = Object.fromEntries(Object.entries({ min_pixels, max_pixels }).filter(([, value]) => value !== null));
  const body = { ...(model && { model }), messages, grounding: true };
  for (const name of ["temperature", "top_p", "max_tokens", "seed"])
    if (settings[name] !== null) body[name] = settings[name];
  if (Object.keys(pixels).length) body.mm_processor_kwargs = pixels;
  return body;
}

/** The same as JSON with the media in it, for a stream. */
export async function streamedBody(conversation, end, settings, model) {
  const media = conversation.turns.slice(0, end).flatMap((turn) => turn.media ?? []);
  const uris = await Promise.all(media.map((medium) => dataUri(medium.blob)));
  const body = requestBody(conversation, end, settings, model, (_, number) => uris[number - 1]);
  return JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } });
}
