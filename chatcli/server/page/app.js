// The page: which talk is shown, what is asked, and what the buttons and keys do.

import { answer, isRunning, runningTalk, runningTalks, stop } from "./answers.js";
import { models } from "./api.js";
import { composeFor, composer, showRunning } from "./composer.js";
import { byId, el } from "./dom.js";
import { closeDrawer, isDrawerOpen } from "./drawer.js";
import { follow, toEnd } from "./follow.js";
import { AnswerView, copyCode, questionView } from "./messages.js";
import { askKey, sampling, settings, settingsDialog } from "./settings.js";
import { FULL, notice, sidebar } from "./sidebar.js";
import * as talks from "./talks.js";

const log = byId("log");
const model = byId("model");
const MODEL = "chatcli.model";

let talk = talks.newTalk();
let views = new Map(); // the index of an answer that is shown -> its view
const made = new WeakMap(); // a message -> { place, node, view }, so that a long talk is built once
const removed = new Set();
const draftId = () => (talk.said.length ? talk.id : "new");
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
  if ([...model.options].some((option) => option.value === talk.model)) model.value = talk.model;
  draw();
  toEnd();
  list.draw();
  composeFor(draftId());
}

function draw() {
  log.ariaLive = "off"; // nobody wants the whole talk read aloud
  views = new Map();
  log.replaceChildren(...talks.path(talk).map(view));
  if (!talk.said.length) log.append(el("p", { className: "empty" }, "What shall we talk about?"));
  drawTitle();
  showRunning(isRunning(talk));
}

function view(at) {
  const message = talk.said[at];
  const all = talks.versions(talk, at);
  const place = [all.indexOf(at) + 1, all.length];
  if (made.get(message)?.place.join() !== place.join()) made.set(message, { place, ...viewOf(message, at, all, place) });
  if (message.role === "assistant") views.set(at, made.get(message).view);
  return made.get(message).node;
}

function viewOf(message, at, all, place) {
  const choose = (step) => {
    talks.choose(talk, all[all.indexOf(at) + step]);
    keep(talk);
    draw();
  };
  if (message.role === "user") return { node: questionView(message, place, { choose, edit: (text) => edit(at, text) }) };
  const view = new AnswerView(place, { choose, retry: () => retry(at) });
  view.drawn = follow;
  view.update(message, isRunning(talk) && message.state === "running");
  return { node: view.node, view };
}

function drawTitle() {
  byId("title").textContent = talk.title || "New talk";
  document.title = talk.title ? `${talk.title} · chatcli` : "chatcli";
}

// ------------------------------------------------------------------ asking

function send(text) {
  if (isRunning(talk)) return;
  if (!model.value) return loadModels();
  talks.saveDraft(draftId(), "");
  if (!talk.said.length) {
    talk.title = talks.titleOf(text);
    history.pushState(null, "", `#${talk.id}`);
  }
  ask(talks.add(talk, talk.tip, { role: "user", content: text }));
  composeFor(draftId());
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
    showRunning(isRunning(talk));
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
    if (!ids.length) return notice("No model here chats: this server makes vectors only.");
    const chosen = [model.value, talk.model, localStorage.getItem(MODEL)].find((id) => ids.includes(id)) ?? ids[0];
    model.replaceChildren(...ids.map((id) => el("option", { value: id }, id)));
    model.value = chosen;
    model.disabled = ids.length < 2;
  } catch (error) {
    if (error.status === 401 && (await askKey())) return loadModels();
    notice(error.status === 401 ? "This server wants an API key." : error.message, ["Retry", loadModels]);
  }
}

// ------------------------------------------------------------------ keys, buttons, the outside

composer({ send, editLast: () => [...log.querySelectorAll("button.edit")].at(-1)?.click() });
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
  if (isDrawerOpen()) closeDrawer();
  else stop(talk);
});

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
