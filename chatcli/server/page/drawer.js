// On a phone the list of talks is a drawer over the talk.

import { byId } from "./dom.js";

export const isDrawerOpen = () => document.body.classList.contains("drawer");

export function openDrawer(open = true) {
  const opener = byId("open-drawer");
  if (open === isDrawerOpen()) return;
  document.body.classList.toggle("drawer", open);
  opener.ariaExpanded = String(open);
  (open ? byId("close-drawer") : opener).focus();
}

export const closeDrawer = () => openDrawer(false);

byId("open-drawer").addEventListener("click", () => openDrawer());
byId("close-drawer").addEventListener("click", closeDrawer);
byId("scrim").addEventListener("click", closeDrawer);
