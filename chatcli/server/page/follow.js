// The screen follows an answer, but only while the reader is at its end: who scrolls up wants to read there.

import { byId } from "./dom.js";

const scroller = byId("scroll");
const NEAR = 8; // pixels that count as the end; fractions of one are lost in scrolling
let sticks = true;

// To be called when the text has grown.
export function follow() {
  if (sticks) scroller.scrollTop = scroller.scrollHeight;
  byId("down").hidden = sticks || scroller.scrollHeight - scroller.clientHeight < NEAR;
}

export function toEnd() {
  sticks = true;
  follow();
}

scroller.addEventListener("scroll", () => {
  sticks = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR;
  byId("down").hidden = sticks;
});
byId("down").addEventListener("click", toEnd);
new ResizeObserver(follow).observe(scroller);
