// Asking: a conversation's turns, the answer that is on its way, and where it is kept.

import { ApiError, stream } from "./api.js";
import { streamedBody } from "./request.js";
import { settings } from "./settings.js";
import * as store from "./store.js";
import { number, words } from "./words.js";

const running = new Map(); // conversation -> AbortController

export const isRunning = (conversation) => running.has(conversation);
export const stop = (conversation) => running.get(conversation)?.abort();

/** A conversation without turns; it is kept once it has one. */
export const newConversation = () => ({
  id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`,
  updated: Date.now(),
  title: "",
  turns: [],
});

/** The pictures of the prompt of the answer at `turns[end]`, and which of them is meant where the answer does not say. */
export function picturesBefore(conversation, end) {
  const pictures = [];
  let meant = null;
  for (const turn of conversation.turns.slice(0, end)) {
    const shown = (turn.media ?? []).filter((medium) => medium.kind === "image");
    if (shown.length) meant = pictures.length;
    pictures.push(...shown);
  }
  return { pictures, meant };
}

/** Adds a question and an answer that is still empty. */
export function addQuestion(conversation, text, media) {
  conversation.turns.push({ role: "user", text, media });
  conversation.title ||= text;
  addAnswer(conversation);
}

/** Takes the last answer back, for another. */
export function takeBack(conversation) {
  conversation.turns.pop();
  addAnswer(conversation);
}

function addAnswer(conversation) {
  const image = picturesBefore(conversation, conversation.turns.length).meant;
  conversation.turns.push({
    role: "assistant",
    text: "",
    items: null,
    pictures: [],
    image,
    usage: null,
    finish: "stopped",
    seconds: 0,
    error: null,
  });
  conversation.updated = Date.now();
}

/** Asks for the last answer of `conversation` and fills it in; `changed()` is told of every step. */
export async function ask(conversation, model, changed) {
  const end = conversation.turns.length - 1;
  const turn = conversation.turns[end];
  const controller = new AbortController();
  const started = performance.now();
  let size = 0;
  running.set(conversation, controller);
  changed();
  try {
    await keep(conversation);
    const body = await streamedBody(conversation, end, settings, model);
    size = body.length;
    for await (const chunk of stream(body, settings.api_key, controller.signal)) {
      take(turn, chunk);
      changed();
    }
  } catch (error) {
    if (error.name !== "AbortError") Object.assign(turn, { error: explain(error, size, turn), finish: null });
  }
  turn.seconds = (performance.now() - started) / 1000;
  running.delete(conversation);
  await keep(conversation);
  changed();
}

function take(turn, chunk) {
  if (chunk.usage) turn.usage = chunk.usage;
  const choice = chunk.choices?.[0];
  if (!choice) return;
  const { content, pictures, grounding } = choice.delta;
  if (pictures) turn.pictures = pictures;
  if (content) turn.text += content;
  if (grounding) turn.items = grounding;
  if (choice.finish_reason) turn.finish = choice.finish_reason;
}

/** What is said where the server wants a key, or another one. */
export const keyRefused = () => words(settings.api_key ? "wrongKey" : "needsKey");

function explain(error, size, turn) {
  const { message, status } = error;
  const values = { message, size: number(size / 1e6, 1) };
  if (!(error instanceof ApiError)) return message;
  if (status === 413) return words("tooLarge", values);
  if (status === 401) return keyRefused();
  if (status === 503) return words("busy", values);
  if (status) return message;
  if (turn.text) return words("broken");
  return size > 1e6 ? words("perhapsTooLarge", values) : words("unreachable");
}

let refusal = "";
const forgotten = new WeakSet();

/** Keeps a conversation in this browser. Where it cannot be kept, it goes on without, and `notKept` says why. */
async function keep(conversation) {
  if (forgotten.has(conversation)) return;
  try {
    await store.save(conversation);
    refusal = "";
  } catch (error) {
    refusal = words("notKept", { reason: error.message });
  }
}

export const notKept = () => refusal;

/** Stops a conversation and removes it; an answer that is on its way does not bring it back. */
export async function forget(conversation) {
  forgotten.add(conversation);
  stop(conversation);
  await store.remove(conversation.id).catch(() => {}); // it was never kept
}
