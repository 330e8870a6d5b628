// Saved talks: in the browser's own storage, one entry each, and nowhere else. Knows no page and no server.
//
// A talk keeps all that was said, also what was edited or retried: `said` is a tree (`parent` is an index, -1 for
// a beginning), and the messages from `tip` up to the beginning are what is shown and sent.
// localStorage and not IndexedDB, because it writes before the page is gone; it holds some five million characters.

const PREFIX = "chatcli.talk.";
const DRAFT = "chatcli.draft.";

export const newTalk = () => ({
  id: Date.now().toString(36) + Math.random().toString(36).slice(2, 8),
  title: "",
  model: "",
  updated: Date.now(),
  said: [],
  tip: -1,
});

// Raises QuotaExceededError where the storage is full.
export function save(talk) {
  localStorage.setItem(PREFIX + talk.id, JSON.stringify(talk));
}

export function load(id) {
  return parsed(localStorage.getItem(PREFIX + id));
}

export function remove(id) {
  localStorage.removeItem(PREFIX + id);
  localStorage.removeItem(DRAFT + id);
}

// The talks that hold every word of `query`, the latest first.
export function find(query = "") {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  const talks = keys.map((key) => parsed(localStorage.getItem(key))).filter(Boolean);
  const holds = (talk) => {
    const text = [talk.title, ...talk.said.map((message) => message.content)].join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return talks.filter(holds).sort((a, b) => b.updated - a.updated);
}

export const draft = (id) => localStorage.getItem(DRAFT + id) ?? "";
export function saveDraft(id, text) {
  try {
    if (text) localStorage.setItem(DRAFT + id, text);
    else localStorage.removeItem(DRAFT + id);
  } catch {
    // Full: the talk itself will say so when it is saved.
  }
}

// Puts a message behind the one with index `parent`, makes it the tip and returns its index.
export function add(talk, parent, message) {
  talk.said.push({ content: "", ...message, parent });
  talk.tip = talk.said.length - 1;
  talk.updated = Date.now();
  return talk.tip;
}

// The indices of the messages that are shown, from the first to the tip.
export function path(talk, tip = talk.tip) {
  const found = [];
  for (let at = tip; at >= 0; at = talk.said[at].parent) found.unshift(at);
  return found;
}

// The messages that stand in the place of the one with index `at`, itself among them.
export function versions(talk, at) {
  return talk.said.flatMap((message, i) => (message.parent === talk.said[at].parent ? [i] : []));
}

// Shows the version `at` again, and of what followed it the latest.
export function choose(talk, at) {
  let tip = at;
  talk.said.forEach((message, i) => {
    if (message.parent === tip) tip = i;
  });
  talk.tip = tip;
}

// What is sent for the answer whose question ends `upTo`. Two messages of one side become one: the prompt formats of
// some models know nothing else, and an answer that failed leaves nothing between two questions.
export function conversation(talk, upTo, system) {
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const { role, content } of path(talk, upTo).map((i) => talk.said[i])) {
    if (!content) continue;
    if (messages.at(-1)?.role === role) messages.at(-1).content += "\n\n" + content;
    else messages.push({ role, content });
  }
  return messages;
}

// All talks as JSON. `messages` is what other programs read (`chatcli history import`, too), the rest is ours.
export function exported() {
  const shown = (talk) => path(talk).map((i) => talk.said[i]).filter((message) => message.content);
  return JSON.stringify(find().map((talk) => ({ ...talk, messages: shown(talk) })), null, 1);
}

// Takes in what `exported` gave, or any list of `{title, messages: [{role, content}]}`; returns how many there were.
export function importAll(text) {
  const found = JSON.parse(text);
  const talks = (Array.isArray(found) ? found : [found]).map(asTalk).filter(Boolean);
  talks.forEach(save);
  return talks.length;
}

function asTalk(item) {
  if (isTalk(item)) return { ...newTalk(), ...item, messages: undefined };
  if (!Array.isArray(item?.messages)) return null;
  const talk = { ...newTalk(), title: String(item.title ?? "") };
  for (const { role, content } of item.messages) {
    if ((role === "user" || role === "assistant") && typeof content === "string") add(talk, talk.tip, { role, content });
  }
  talk.title ||= titleOf(talk.said[0]?.content ?? "");
  return talk;
}

// A parent stands before its children, so that no walk up the tree can go round in it.
function isTalk(item) {
  const is = (kind) => (value) => value == null || typeof value === kind;
  const fine = (message, i) => typeof message?.content === "string" && Number.isInteger(message.parent) &&
    message.parent >= -1 && message.parent < i && ["user", "assistant"].includes(message.role) &&
    [message.reasoning, message.error].every(is("string")) && [message.usage].every(is("object")) &&
    [message.thought, message.first, message.last, message.usage?.asked, message.usage?.said].every(is("number"));
  return /^\w+$/.test(item?.id) && typeof item.title === "string" && typeof item.updated === "number" &&
    Array.isArray(item.said) && item.said.every(fine) &&
    Number.isInteger(item.tip) && item.tip >= -1 && item.tip < item.said.length;
}

export function titleOf(question) {
  const line = question.trim().split("\n")[0];
  return line.length > 60 ? line.slice(0, 59).trimEnd() + "…" : line;
}

function parsed(text) {
  try {
    const talk = JSON.parse(text);
    return isTalk(talk) ? talk : null;
  } catch {
    return null;
  }
}
