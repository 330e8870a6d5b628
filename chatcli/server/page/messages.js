// How one message looks, and how an answer grows. Knows no talk and no server: what its buttons do is given to it.

import { sends } from "./composer.js";
import { byId, button, copyText, el, morph } from "./dom.js";
import { MarkdownStream } from "./markdown.js";

const NOTES = {
  stopped: "Stopped.",
  length: "Cut at the limit of tokens.",
  running: "This answer was cut off.",
};

// `actions` has `edit(text)`, `retry()` and `choose(step)`; `place` is [which version, of how many].
export function questionView(message, place, actions) {
  const text = el("div", { className: "said" }, message.content);
  const node = el("article", { className: "question", ariaLabel: "You" }, text);
  const edit = () => node.replaceChildren(editor(message.content, actions.edit, () => node.replaceChildren(...parts)));
  const tools = [copyButton(() => message.content), button("Edit", edit, { className: "edit" })];
  const parts = [text, toolbar(place, actions, ...tools)];
  node.replaceChildren(...parts);
  return node;
}

function editor(content, send, cancel) {
  const rows = Math.min(12, content.split("\n").length + 1);
  const field = el("textarea", { value: content, ariaLabel: "Edit the question", rows });
  const submit = () => field.value.trim() && send(field.value.trim());
  field.addEventListener("keydown", (event) => {
    if (sends(event)) submit();
    else if (event.key === "Escape") cancel();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const row = el("div", { className: "row" }, button("Cancel", cancel), button("Send", submit, { className: "main" }));
  requestAnimationFrame(() => field.focus());
  return el("div", { className: "editor" }, field, row);
}

export class AnswerView {
  constructor(place, actions) {
    this.text = el("div", { className: "text" });
    this.markdown = new MarkdownStream(this.text);
    this.summary = el("summary");
    this.thoughts = el("div", { className: "thoughts" });
    this.reasoning = el("details", { hidden: true }, this.summary, this.thoughts);
    this.note = el("p", { className: "note", hidden: true });
    this.facts = el("span", { className: "facts" });
    const retry = button("Retry", actions.retry, { className: "retry" });
    this.tools = toolbar(place, actions, copyButton(() => this.message.content), retry, this.facts);
    const parts = [this.reasoning, this.text, this.note, this.tools];
    this.node = el("article", { className: "answer", ariaLabel: "Answer" }, ...parts);
  }

  // Called as often as pieces come; the page changes at most once a frame.
  update(message, isRunning) {
    this.message = message;
    this.isRunning = isRunning;
    if (!isRunning) return this.draw();
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    const { message, isRunning } = this;
    this.markdown.show(message.content, !isRunning);
    this.drawReasoning(message, isRunning);
    const note = message.error ?? (isRunning ? "" : NOTES[message.state]) ?? "";
    this.note.textContent = note;
    this.note.hidden = !note;
    this.note.classList.toggle("error", Boolean(message.error));
    this.facts.textContent = isRunning ? "" : factsOf(message);
    this.tools.hidden = isRunning;
    this.node.classList.toggle("waiting", isRunning && !message.content && !message.reasoning);
    // Screen readers read the answer when it is whole, not in pieces.
    this.node.ariaBusy = String(isRunning);
    this.drawn?.();
  }

  drawReasoning({ reasoning = "", content, thought }, isRunning) {
    this.reasoning.hidden = !reasoning;
    morph(this.thoughts, 0, reasoning ? [new Text(reasoning)] : []);
    const over = content || !isRunning;
    this.summary.textContent = !over ? "Thinking…" : thought > 0.1 ? `Thought for ${thought.toFixed(1)} s` : "Thoughts";
  }
}

function factsOf({ usage, first, last, model }) {
  const facts = [model];
  if (usage) facts.push(`${usage.asked} + ${usage.said} tokens`);
  // The first token's time is the prompt's; what the others took is the speed, where it took long enough to tell.
  if (usage?.said > 1 && last - first > 0.1) facts.push(`${((usage.said - 1) / (last - first)).toFixed(1)} tokens/s`);
  if (first) facts.push(`first after ${first.toFixed(first < 1 ? 2 : 1)} s`);
  return facts.filter(Boolean).join(" · ");
}

function toolbar([which, count], actions, ...tools) {
  const bar = el("div", { className: "tools" }, ...tools);
  if (count < 2) return bar;
  const step = (label, title, by, disabled) =>
    button(label, () => actions.choose(by), { title, ariaLabel: title, disabled });
  const earlier = step("‹", "Earlier version", -1, which === 1);
  const later = step("›", "Later version", 1, which === count);
  bar.prepend(el("span", { className: "versions" }, earlier, `${which}/${count}`, later));
  return bar;
}

const copyButton = (text) => button("Copy", (event) => copied(event.currentTarget, text()));

// One listener for the buttons of all code blocks, which are built again and again while they stream.
export function copyCode(event) {
  const pressed = event.target.closest("button.copy");
  if (pressed) copied(pressed, pressed.closest(".code").querySelector("code").textContent);
}

async function copied(pressed, text) {
  try {
    await copyText(text);
    pressed.textContent = "Copied";
  } catch {
    pressed.textContent = "Not allowed";
  }
  byId("status").textContent = pressed.textContent;
  setTimeout(() => (pressed.textContent = "Copy"), 1500);
}
