// What is asked of a person in a dialog: how to answer, which hold for all talks and are kept; and the API key.

import { setKey } from "./api.js";
import { byId } from "./dom.js";

const STORED = "chatcli.settings";
const NUMBERS = ["temperature", "top_p", "max_tokens"];

// The settings that a person has set; what is left open is the model's own.
export function settings() {
  try {
    return JSON.parse(localStorage.getItem(STORED)) ?? {};
  } catch {
    return {};
  }
}

// What of them goes into a request beside the messages.
export function sampling() {
  const set = settings();
  return Object.fromEntries(NUMBERS.flatMap((name) => (typeof set[name] === "number" ? [[name, set[name]]] : [])));
}

export function settingsDialog() {
  for (const cancel of document.querySelectorAll("dialog .cancel")) {
    cancel.addEventListener("click", () => cancel.closest("dialog").close("cancel"));
  }
  const dialog = byId("settings");
  const fields = dialog.querySelector("form").elements;
  byId("open-settings").addEventListener("click", () => {
    const set = settings();
    for (const name of ["system", ...NUMBERS]) fields[name].value = set[name] ?? "";
    dialog.returnValue = "";
    dialog.showModal();
  });
  byId("reset").addEventListener("click", () => {
    for (const name of ["system", ...NUMBERS]) fields[name].value = "";
  });
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "save") return;
    const set = fields.system.value.trim() ? { system: fields.system.value.trim() } : {};
    for (const name of NUMBERS) if (fields[name].value !== "") set[name] = Number(fields[name].value);
    localStorage.setItem(STORED, JSON.stringify(set));
  });
}

let asking;
// Whether there is a key now. Several requests that are refused at once ask once.
export function askKey() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key");
    const field = dialog.querySelector("input");
    byId("key-note").textContent = field.value ? "The server did not accept this key." : "This server wants an API key.";
    dialog.returnValue = "";
    dialog.showModal();
    dialog.onclose = () => {
      const given = dialog.returnValue === "save" && field.value.trim() !== "";
      if (given) setKey(field.value.trim());
      asking = undefined;
      resolve(given);
    };
  });
  return asking;
}
