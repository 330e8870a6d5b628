// The answers that are on their way. One goes on while another talk is looked at, and what has come is kept every
// second, so that a reload in its middle keeps it. Knows no page.

import { ApiError, chat } from "./api.js";

const KEEP_EVERY = 1000; // milliseconds
const running = new Map(); // the id of a talk -> { talk, controller, ended }

export const isRunning = (talk) => running.has(talk.id);
export const runningTalk = (id) => running.get(id)?.talk;
export const runningTalks = () => [...running.values()].map(({ talk }) => talk);

// Fills the message `at` of `talk` with the answer to `body`. `page` has `changed(talk, at)`, called for every piece
// and at the end; `keep(talk)`, which saves; `unauthorized()`, which asks for a key and says whether there is one.
export function answer(talk, at, body, page) {
  const { parent, role } = talk.said[at];
  talk.said[at] = { role, parent, content: "", model: body.model, state: "running" };
  const entry = { talk, controller: new AbortController() };
  running.set(talk.id, entry);
  page.keep(talk);
  entry.ended = fill(talk, at, body, entry.controller.signal, page);
}

// Ends the answer that is on its way in `talk`, and waits until it has ended. What has come is kept.
export async function stop(talk) {
  running.get(talk.id)?.controller.abort();
  await running.get(talk.id)?.ended;
}

async function fill(talk, at, body, signal, page) {
  const message = talk.said[at];
  try {
    while (!(await attempt(body, signal, message, () => piece(talk, at, page)))) {
      if (!(await page.unauthorized())) throw new ApiError("This server wants an API key.", 401);
    }
    message.state = message.finish === "length" ? "length" : "whole";
  } catch (error) {
    message.state = signal.aborted ? "stopped" : "failed";
    if (message.state === "failed") message.error = error instanceof ApiError ? error.message : `The page failed: ${error}`;
  } finally {
    running.delete(talk.id);
    talk.updated = Date.now();
    page.keep(talk);
    page.changed(talk, at);
  }
}

let kept = 0;
function piece(talk, at, page) {
  page.changed(talk, at);
  if (performance.now() - kept < KEEP_EVERY) return;
  kept = performance.now();
  page.keep(talk);
}

// False where the server wants a key, or another one.
async function attempt(body, signal, message, changed) {
  const began = performance.now();
  try {
    for await (const chunk of chat(body, signal)) {
      take(chunk, message, (performance.now() - began) / 1000);
      changed();
    }
  } catch (error) {
    if (error.status === 401) return false;
    throw error;
  }
  return true;
}

// `seconds` have passed since the question; servers name what a model thinks in two ways.
function take(chunk, message, seconds) {
  const choice = chunk.choices?.[0];
  const thought = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning;
  const text = choice?.delta?.content;
  if (thought) message.reasoning = (message.reasoning ?? "") + thought;
  if (text && message.reasoning) message.thought ??= seconds;
  if (text) message.content += text;
  if (text || thought) {
    message.first ??= seconds;
    message.last = seconds;
  }
  if (choice?.finish_reason) message.finish = choice.finish_reason;
  if (chunk.usage) message.usage = { asked: chunk.usage.prompt_tokens, said: chunk.usage.completion_tokens };
}
