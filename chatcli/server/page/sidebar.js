// The list of saved talks: search, open, rename, delete with a way back, export, import.

import { byId, button, el } from "./dom.js";
import { exported, find, importAll, load, remove, save } from "./talks.js";

// `page` has `current()`, the talk that is shown, and is told what is done: `opened()`, `renamed(id, title)`,
// `removed(id)`, `restored(id)`.
export function sidebar(page) {
  const list = byId("talks");
  const search = byId("search");

  const draw = () => {
    const talks = find(search.value);
    list.replaceChildren(...talks.map((talk) => entry(talk)));
    byId("no-talks").textContent = talks.length ? "" : search.value ? "No talk has these words." : "No talks yet.";
  };

  function entry(talk) {
    const title = el("a", { href: `#${talk.id}`, className: "title", title: talk.title }, talk.title || "Untitled");
    if (talk.id === page.current().id) title.ariaCurrent = "page";
    title.addEventListener("click", () => page.opened());
    const item = el("li", {}, title);
    const named = { title: "Rename", ariaLabel: `Rename ${talk.title}` };
    item.append(button("✎", () => item.replaceChildren(nameField(talk)), named));
    item.append(button("×", () => removeTalk(talk), { title: "Delete", ariaLabel: `Delete ${talk.title}` }));
    return item;
  }

  function nameField(talk) {
    const field = el("input", { value: talk.title, ariaLabel: "Title", maxLength: 200 });
    const done = (keep) => {
      field.onblur = null;
      if (keep && field.value.trim()) page.renamed(talk.id, field.value.trim());
      draw();
    };
    field.onblur = () => done(true);
    field.onkeydown = (event) => {
      if (event.key === "Enter" && !event.isComposing) done(true);
      if (event.key === "Escape") done(false);
      event.stopPropagation();
    };
    requestAnimationFrame(() => field.select());
    return field;
  }

  function removeTalk(talk) {
    const whole = load(talk.id);
    remove(talk.id);
    page.removed(talk.id);
    draw();
    const undo = () => {
      save(whole);
      page.restored(talk.id);
      draw();
    };
    notice(`Deleted “${talk.title}”.`, ["Undo", undo]);
  }

  search.addEventListener("input", draw);
  byId("export").addEventListener("click", () => {
    download(`chatcli-talks-${new Date().toISOString().slice(0, 10)}.json`, exported());
  });
  byId("import").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", async ({ target }) => {
    notice(await taken(target.files[0]));
    target.value = "";
    draw();
  });
  return { draw };
}

async function taken(file) {
  try {
    const count = importAll(await file.text());
    return count ? `Imported ${count} talk${count === 1 ? "" : "s"}.` : `${file.name} holds no talks.`;
  } catch (error) {
    return error.name === "QuotaExceededError" ? FULL : `${file.name} cannot be read: it is no JSON.`;
  }
}

export const FULL = "The browser has no room for more talks: export some, then delete them.";

function download(name, text) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

let hiding;
// A sentence at the bottom for some seconds, with a button where there is something to do about it.
export function notice(sentence, [label, act] = []) {
  const hide = () => (byId("notice").hidden = true);
  const pressed = () => {
    hide();
    act();
  };
  const buttons = [...(label ? [button(label, pressed)] : []), button("×", hide, { ariaLabel: "Close" })];
  byId("notice").replaceChildren(el("span", {}, sentence), ...buttons);
  byId("notice").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(hide, 8000);
}
