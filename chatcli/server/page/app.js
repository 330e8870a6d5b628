// The page: which talk is shown, what its buttons and keys do, and that the screen follows the answer.

import { answer, isRunning, runningTalk, runningTalks, stop } from "./answers.js";
import { models } from "./api.js";
import { byId, el } from "./dom.js";
import { AnswerView, copyCode, questionView, sends } from "./messages.js";
import { askKey, sampling, settings, settingsDialog } from "./settings.js";
import { FULL, notice, sidebar } from "./sidebar.js";
import * as talks from "./talks.js";

const log = byId("log");
const scroller = byId("scroll");
const question = byId("question");
const model = byId("model");
const MODEL = "chatcli.model";

let talk = talks.newTalk();
let views = new Map(); // the index of an answer -> its view
const removed = new Set();
let leaving = false;

const list = sidebar({
  current: () => talk,
  opened: closeDrawer,
  renamed(id, title) {
    const named = id === talk.id ? talk : (runningTalk(id) ?? talks.load(id));
    named.title = title;
    keep(named);
    drawTitle();
  },
  removed(id) {
    removed.add(id);
    const going = runningTalk(id);
    if (going) stop(going);
    if (id === talk.id) show("");
  },
  restored: (id) => removed.delete(id),
});

// ------------------------------------------------------------------ the talk on the screen

// Shows the talk `id`; one that is not there is a new one.
function show(id) {
  talk = runningTalk(id) ?? talks.load(id) ?? talks.newTalk();
  const wanted = talk.said.length ? `#${talk.id}` : "#";
  if (location.hash !== wanted && (location.hash || wanted !== "#")) history.replaceState(null, "", wanted);
  question.value = talks.draft(draftId());
  if ([...model.options].some((option) => option.value === talk.model)) model.value = talk.model;
  draw();
  toEnd();
  list.draw();
  // On a phone the keyboard would cover what is to be read.
  if (matchMedia("(hover: hover)").matches) question.focus();
}

function draw() {
  log.ariaLive = "off"; // nobody wants the whole talk read aloud
  views = new Map();
  log.replaceChildren(...talks.path(talk).map(view));
  if (!talk.said.length) log.append(el("p", { className: "empty" }, "What shall we talk about?"));
  drawTitle();
  drawComposer();
}

function view(at) {
  const message = talk.said[at];
  const all = talks.versions(talk, at);
  const place = [all.indexOf(at) + 1, all.length];
  const choose = (step) => {
    talks.choose(talk, all[all.indexOf(at) + step]);
    keep(talk);
    draw();
  };
  if (message.role === "user") return questionView(message, place, { choose, edit: (text) => edit(at, text) });
  const made = new AnswerView(place, { choose, retry: () => retry(at) });
  made.drawn = follow;
  made.update(message, isRunning(talk) && message.state === "running");
  views.set(at, made);
  return made.node;
}

function drawTitle() {
  byId("title").textContent = talk.title || "New talk";
  document.title = talk.title ? `${talk.title} · chatcli` : "chatcli";
}

function drawComposer() {
  byId("send").hidden = isRunning(talk);
  byId("stop").hidden = !isRunning(talk);
}

// ------------------------------------------------------------------ asking

function send() {
  const text = question.value.trim();
  if (!text || isRunning(talk)) return;
  if (!model.value) return loadModels();
  talks.saveDraft(draftId(), "");
  question.value = "";
  grow();
  if (!talk.said.length) {
    talk.title = talks.titleOf(text);
    history.pushState(null, "", `#${talk.id}`);
  }
  ask(talks.add(talk, talk.tip, { role: "user", content: text }));
}

// The edited question stands beside the first one, which can be gone back to.
async function edit(at, text) {
  await stop(talk);
  ask(talks.add(talk, talk.said[at].parent, { role: "user", content: text }));
}

async function retry(at) {
  await stop(talk);
  if (talk.said[at].content) ask(talk.said[at].parent);
  else ask(talk.said[at].parent, at); // nothing had come: nothing is lost
}

function ask(from, at = talks.add(talk, from, { role: "assistant" })) {
  talk.tip = at;
  talk.model = model.value;
  const body = { model: model.value, messages: talks.conversation(talk, from, settings().system), ...sampling() };
  answer(talk, at, body, { changed, keep, unauthorized: askKey });
  draw();
  log.ariaLive = "polite";
  byId("status").textContent = "The model answers.";
  toEnd();
  list.draw();
}

function changed(which, at) {
  if (which === talk) {
    views.get(at)?.update(talk.said[at], isRunning(talk));
    drawComposer();
  }
  if (!isRunning(which)) list.draw();
}

function keep(which) {
  if (removed.has(which.id) || leaving) return;
  try {
    talks.save(which);
  } catch {
    notice(FULL);
  }
}

async function loadModels() {
  try {
    const ids = await models();
    const chosen = [model.value, talk.model, localStorage.getItem(MODEL)].find((id) => ids.includes(id)) ?? ids[0];
    model.replaceChildren(...ids.map((id) => el("option", { value: id }, id)));
    model.value = chosen;
    model.disabled = ids.length < 2;
  } catch (error) {
    if (error.status === 401 && (await askKey())) return loadModels();
    notice(error.status === 401 ? "This server wants an API key." : error.message, ["Retry", loadModels]);
  }
}

// ------------------------------------------------------------------ the screen follows the answer

let sticks = true; // only while the reader is at the end: who scrolls up wants to read there

function follow() {
  if (sticks) scroller.scrollTop = scroller.scrollHeight;
  byId("down").hidden = sticks || scroller.scrollHeight - scroller.clientHeight < 8;
}

function toEnd() {
  sticks = true;
  follow();
}

scroller.addEventListener("scroll", () => {
  sticks = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 8;
  byId("down").hidden = sticks;
});
byId("down").addEventListener("click", toEnd);
new ResizeObserver(follow).observe(scroller);

// ------------------------------------------------------------------ keys, buttons, the outside

const draftId = () => (talk.said.length ? talk.id : "new");

// `field-sizing` does this by itself where the browser knows it.
function grow() {
  if (CSS.supports("field-sizing", "content")) return;
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

question.addEventListener("input", () => {
  talks.saveDraft(draftId(), question.value);
  grow();
});
question.addEventListener("keydown", (event) => {
  if (sends(event)) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && !question.value) {
    event.preventDefault();
    [...log.querySelectorAll("button.edit")].at(-1)?.click();
  }
});
byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("stop").addEventListener("click", () => stop(talk));
log.addEventListener("click", copyCode);
byId("new").addEventListener("click", (event) => {
  event.preventDefault();
  if (location.hash) history.pushState(null, "", "#");
  show("");
  closeDrawer();
});
model.addEventListener("change", () => localStorage.setItem(MODEL, model.value));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("drawer")) closeDrawer();
  else stop(talk);
});

function openDrawer(open) {
  document.body.classList.toggle("drawer", open);
  byId("open-drawer").ariaExpanded = String(open);
  if (open) byId("close-drawer").focus();
}
function closeDrawer() {
  openDrawer(false);
}
byId("open-drawer").addEventListener("click", () => openDrawer(true));
byId("close-drawer").addEventListener("click", closeDrawer);
byId("scrim").addEventListener("click", closeDrawer);

addEventListener("popstate", () => show(location.hash.slice(1)));
// Leaving breaks the connections; what is saved must not say that the server did.
addEventListener("pagehide", () => {
  runningTalks().forEach(keep);
  leaving = true;
});
addEventListener("pageshow", () => (leaving = false));
// Another tab has written.
addEventListener("storage", ({ key }) => {
  list.draw();
  if (key === `chatcli.talk.${talk.id}` && !isRunning(talk)) show(talk.id);
});

settingsDialog();
show(location.hash.slice(1));
loadModels();
