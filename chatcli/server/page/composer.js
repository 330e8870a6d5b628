// The field in which questions are written. What is written there is kept, for each talk on its own.

import { byId } from "./dom.js";
import { draft, saveDraft } from "./talks.js";

const field = byId("question");
let id = "new";

// Enter, but not the Enter that accepts a suggestion of an input method (which Safari tells by 229 alone).
export const sends = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

// `send(text)` composes anew where it takes the question; `editLast()` is for ↑ in the empty field.
export function composer({ send, editLast }) {
  const submit = () => {
    const text = field.value.trim();
    if (text) send(text);
  };
  field.addEventListener("input", () => {
    saveDraft(id, field.value);
    grow();
  });
  field.addEventListener("keydown", (event) => {
    if (sends(event)) submit();
    else if (event.key === "ArrowUp" && !field.value) editLast();
    else return;
    event.preventDefault();
  });
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
}

// Writes on what was begun for the talk `draftId`.
export function composeFor(draftId) {
  id = draftId;
  field.value = draft(id);
  grow();
  // On a phone the keyboard would cover what is to be read.
  if (matchMedia("(hover: hover)").matches) field.focus();
}

export function showRunning(isRunning) {
  byId("send").hidden = isRunning;
  byId("stop").hidden = !isRunning;
}

// `field-sizing` does this by itself where the browser knows it.
function grow() {
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}
