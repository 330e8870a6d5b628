// Inline Markdown to DOM nodes: code, emphasis, links, line breaks.
// Everything a model writes becomes text nodes; there is no way from a string to markup. Knows no blocks.

import { el } from "./dom.js";

const SPECIAL = /[\\`*_~[!<\n]|https?:\/\//g;
const ESCAPABLE = /[\\`*_{}[\]<>#+\-.!|~]/;
const WORD = /[\p{L}\p{N}_]/u;
const DESTINATION = /\(\s*<?([^\s<>()]*(?:\([^\s()]*\)[^\s<>()]*)*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]+)>/y;
const BREAK = /<br\s*\/?>/iy;
const BARE_URL = /https?:\/\/[^\s<>"'`，。；、）】》]+/y;
const SAFE = new Set(["http:", "https:", "mailto:"]);
const DEEPEST = 12;

// `open` says that the text may go on: what is bold so far is shown bold, so that nothing jumps when it closes.
export function inline(text, open = false, depth = 0) {
  const out = document.createDocumentFragment();
  if (depth > DEEPEST) {
    out.append(text);
    return out;
  }
  // What is known to close nowhere from here on is not looked for again: no text takes quadratic time.
  const source = { text, open, depth, hopeless: new Set() };
  let plain = "";
  let at = 0;
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, next);
    if (next === text.length) break;
    const [content, end] = RULES[text[next]](source, next);
    if (typeof content === "string") {
      plain += content;
    } else {
      if (plain) out.append(plain);
      plain = "";
      out.append(content);
    }
    at = end;
  }
  if (plain) out.append(plain);
  return out;
}

// Each rule gets the place of its first character and answers what is there and where it ends.
const RULES = {
  "\\": backslash,
  "`": code,
  "*": emphasis,
  "_": emphasis,
  "~": emphasis,
  "[": (source, at) => link(source, at, at),
  "!": (source, at) => (source.text[at + 1] === "[" ? link(source, at, at + 1) : ["!", at + 1]),
  "<": angle,
  "\n": (source, at) => [el("br"), at + 1],
  h: bareUrl,
};

function backslash({ text, hopeless }, at) {
  // Formulas stay as they are written: there is no typesetting here, but no emphasis in them either.
  const closing = { "(": "\\)", "[": "\\]" }[text[at + 1]];
  const end = closing && !hopeless.has(closing) ? text.indexOf(closing, at + 2) : -1;
  if (end > 0) return [el("span", { className: "math" }, text.slice(at, end + 2)), end + 2];
  hopeless.add(closing);
  if (text[at + 1] === "\n") return [el("br"), at + 2];
  return ESCAPABLE.test(text[at + 1] ?? "") ? [text[at + 1], at + 2] : ["\\", at + 1];
}

function runLength(text, at) {
  let end = at + 1;
  while (text[end] === text[at]) end++;
  return end - at;
}

// Where the code span that begins at `at` closes: [its content's end, its own end], or null.
function codeEnd({ text, hopeless }, at) {
  const ticks = runLength(text, at);
  if (hopeless.has("`" + ticks)) return null;
  for (let next = text.indexOf("`", at + ticks); next >= 0; ) {
    const length = runLength(text, next);
    if (length === ticks) return [next, next + ticks];
    next = text.indexOf("`", next + length);
  }
  hopeless.add("`" + ticks);
  return null;
}

function code(source, at) {
  const { text, open } = source;
  const ticks = runLength(text, at);
  const end = codeEnd(source, at) ?? (open && text[at + ticks] ? [text.length, text.length] : null);
  if (!end) return [text.slice(at, at + ticks), at + ticks];
  const content = text.slice(at + ticks, end[0]).replaceAll("\n", " ");
  return [el("code", {}, /^ .*[^ ].* $/.test(content) ? content.slice(1, -1) : content), end[1]];
}

function emphasis(source, at) {
  const { text, open, depth } = source;
  const mark = text[at];
  const run = runLength(text, at);
  const literal = [text.slice(at, at + run), at + run];
  const flanks = /\S/.test(text[at + run] ?? " ") && !(mark === "_" && WORD.test(text[at - 1] ?? ""));
  if (!flanks || run > 3) return literal;
  for (const size of mark === "~" ? (run === 2 ? [2] : []) : run === 3 ? [3, 1, 2] : [run]) {
    const end = closer(source, at + run, mark, size);
    const inside = (stop, more) => inline(text.slice(at + size, stop), more, depth + 1);
    if (end >= 0) return [styled(mark, size, inside(end, false)), end + size];
    if (open && size === 2 && run === 2) return [styled(mark, size, inside(text.length, true)), text.length];
  }
  return literal;
}

// Looser than CommonMark where that fails Chinese text: a closing mark may follow punctuation and precede a letter.
function closer(source, from, mark, size) {
  const { text, hopeless } = source;
  if (hopeless.has(mark + size)) return -1;
  for (let at = from; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "`") at = (codeEnd(source, at)?.[1] ?? at + runLength(text, at)) - 1;
    else if (text[at] === mark) {
      const run = runLength(text, at);
      const fits = size === 1 ? run !== 2 : run >= size;
      const after = text[at + run] ?? "";
      if (fits && /\S/.test(text[at - 1]) && !(mark === "_" && WORD.test(after))) return at + run - size;
      at += run - 1;
    }
  }
  hopeless.add(mark + size);
  return -1;
}

function styled(mark, size, content) {
  if (mark === "~") return el("del", {}, content);
  if (size === 1) return el("em", {}, content);
  return size === 2 ? el("strong", {}, content) : el("strong", {}, el("em", {}, content));
}

// Pictures become links too: the page loads nothing from anywhere.
function link(source, at, bracket) {
  const { text, depth } = source;
  const end = labelEnd(source, bracket);
  DESTINATION.lastIndex = end + 1;
  const destination = end > 0 && DESTINATION.exec(text);
  const label = text.slice(bracket + 1, end);
  const anchor = destination && anchorTo(destination[1]);
  if (!anchor) return [text.slice(at, bracket + 1), bracket + 1];
  anchor.append(label ? inline(label, false, depth + 1) : destination[1]);
  for (const inner of anchor.querySelectorAll("a")) inner.replaceWith(...inner.childNodes);
  anchor.normalize();
  return [anchor, DESTINATION.lastIndex];
}

function labelEnd({ text, hopeless }, at) {
  if (hopeless.has("[")) return -1;
  let nested = 0;
  for (let next = at; next < text.length; next++) {
    if (text[next] === "\\") next++;
    else if (text[next] === "[") nested++;
    else if (text[next] === "]" && --nested === 0) return next;
  }
  hopeless.add("[");
  return -1;
}

function angle({ text }, at) {
  AUTOLINK.lastIndex = BREAK.lastIndex = at;
  if (BREAK.test(text)) return [el("br"), BREAK.lastIndex];
  const found = AUTOLINK.exec(text);
  const anchor = found && anchorTo(found[1]);
  if (!anchor) return ["<", at + 1];
  anchor.append(found[1]);
  return [anchor, AUTOLINK.lastIndex];
}

function bareUrl({ text }, at) {
  BARE_URL.lastIndex = at;
  let url = /\w/.test(text[at - 1] ?? "") ? "" : (BARE_URL.exec(text)?.[0] ?? "");
  url = url.replace(/[*_~.,:;!?\]]+$/, "");
  if (url.endsWith(")") && !url.includes("(")) url = url.replace(/\)+[.,:;!?]*$/, "");
  const anchor = url && anchorTo(url);
  if (!anchor) return ["h", at + 1];
  anchor.append(url);
  return [anchor, at + url.length];
}

// An empty link to `address`, or null where that is no plain web or mail address. The browser's own parser
// decides, so that what it would forgive ("java\nscript:") is judged as it would be followed.
export function anchorTo(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (!SAFE.has(url.protocol)) return null;
  return el("a", { href: url.href, title: url.href, target: "_blank", rel: "noopener noreferrer" });
}
