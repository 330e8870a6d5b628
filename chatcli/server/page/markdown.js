// Markdown that streams: blocks that are finished are built once, only the open one is built again.
// GitHub's flavour without raw HTML, indented code, underlined headings and reference links; a line break is a
// line break, as models mean it (and as Chinese text needs it). Knows no inline marks and no network.

import { el, morph } from "./dom.js";
import { highlighted } from "./highlight.js";
import { inline } from "./inline.js";

const FENCE = /^ {0,3}(`{3,}(?!.*`)|~{3,})\s*(\S*)/;
const HEADING = /^ {0,3}(#{1,6})(?![^ \t])(.*)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const DIVIDER = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const MARK_ALONE = /^\s*(?:[-*+>|]|\*\*|#{1,6}|\d{1,9}[.)]?|`{1,2}|~{1,2})$/;
const SIDES = { "true true": "center", "false true": "right" };
const DEEPEST = 12;

// A growing text in `root`. Call `show` with the whole text so far, `done` with the last.
export class MarkdownStream {
  constructor(root) {
    this.root = root;
    this.settled = 0; // characters whose blocks are built for good
    this.nodes = 0; // and how many nodes those are
  }

  show(text, done = false) {
    const lines = text.slice(this.settled).split("\n");
    // Only whole lines tell that a block has ended: the last one may go on.
    const ended = blocks(lines.slice(0, -1)).slice(0, -1);
    const used = ended.at(-1)?.end ?? 0;
    const rest = lines.slice(used);
    // What may become a list or a fence with the next character is not shown as text before.
    if (!done && MARK_ALONE.test(rest.at(-1))) rest.pop();
    const open = blocks(rest);
    morph(this.root, this.nodes, [...built(ended, false), ...built(open, !done)]);
    this.nodes += ended.length;
    this.settled += lines.slice(0, used).reduce((sum, line) => sum + line.length + 1, 0);
  }
}

// The blocks of `lines`: each ends before line `end` and builds its node; `open` says that it may go on.
function blocks(lines, depth = 0) {
  const found = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const block = (depth < DEEPEST && startsBlock(lines, at)) || paragraph;
    found.push(block(lines, at, depth));
    at = found.at(-1).end;
  }
  return found;
}

function startsBlock(lines, at) {
  const line = lines[at];
  if (FENCE.test(line)) return fence;
  if (HEADING.test(line)) return heading;
  if (RULE.test(line)) return rule;
  if (QUOTE.test(line)) return quote;
  if (ITEM.test(line)) return list;
  if (isTable(lines, at)) return table;
  return null;
}

function interrupts(lines, at) {
  const item = ITEM.exec(lines[at]);
  // "In\n1998. It was" is a sentence; only a list that begins at 1 may follow a line directly.
  if (item && !RULE.test(lines[at])) return item[0] !== lines[at] && (!/\d/.test(item[2]) || parseInt(item[2]) === 1);
  return startsBlock(lines, at) !== null;
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && (depth >= DEEPEST || !interrupts(lines, end))) end++;
  const text = lines.slice(at, end).map((line) => line.trim());
  return { end, build: (open) => el("p", {}, inline(text.join("\n"), open)) };
}

function heading(lines, at) {
  const [, marks, rest] = HEADING.exec(lines[at]);
  const text = rest.trim().replace(/(^|\s)#+$/, "").trim();
  return { end: at + 1, build: (open) => el("h" + marks.length, {}, inline(text, open)) };
}

function rule(lines, at) {
  return { end: at + 1, build: () => el("hr") };
}

function fence(lines, at) {
  const [, marks, language] = FENCE.exec(lines[at]);
  const indent = lines[at].search(/\S/);
  const closing = new RegExp(`^ {0,3}${marks[0]}{${marks.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end++;
  const text = lines.slice(at + 1, end).map((line) => line.slice(Math.min(indent, line.search(/[^ ]|$/))));
  return { end: Math.min(end + 1, lines.length), build: () => codeBlock(text.join("\n"), language) };
}

function codeBlock(text, language) {
  const copy = el("button", { type: "button", className: "copy" }, "Copy");
  const bar = el("div", { className: "bar" }, el("span", {}, language), copy);
  const code = el("code", {}, highlighted(text, language));
  return el("div", { className: "code" }, bar, el("pre", { tabIndex: 0 }, code));
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  const inside = blocks(lines.slice(at, end).map((line) => line.replace(QUOTE, "")), depth + 1);
  return { end, build: (open) => el("blockquote", {}, ...built(inside, open)) };
}

function list(lines, at, depth) {
  const numbered = /\d/.test(ITEM.exec(lines[at])[2]);
  const start = parseInt(ITEM.exec(lines[at])[2]);
  const items = [];
  let end = at;
  for (;;) {
    const next = skipBlank(lines, end);
    const item = next < lines.length && !RULE.test(lines[next]) && ITEM.exec(lines[next]);
    if (!item || /\d/.test(item[2]) !== numbered) break;
    end = itemEnd(lines, next);
    items.push(itemBlocks(lines.slice(next, end), item, depth));
  }
  const build = (open) => {
    const nodes = items.map((inside, i) => el("li", {}, ...built(inside, open && i === items.length - 1)));
    return numbered ? el("ol", { start }, ...nodes) : el("ul", {}, ...nodes);
  };
  return { end, build };
}

// Models indent what belongs to an item by two, three or four spaces; all of it belongs to it here.
function itemEnd(lines, at) {
  const deeper = indentOf(lines[at]) + 2;
  let end = at + 1;
  while (end < lines.length) {
    const next = skipBlank(lines, end);
    const within = next < lines.length && indentOf(lines[next]) >= deeper;
    const goesOn = next === end && !interrupts(lines, next) && !ITEM.test(lines[next]);
    if (next === lines.length || !(within || goesOn)) break;
    end = next + 1;
  }
  return end;
}

function itemBlocks(tabbed, item, depth) {
  const lines = tabbed.map(untabbed);
  const width = item[0].length;
  const first = lines[0].slice(width).replace(/^\[([ xX])\](?= )/, (_, mark) => (mark === " " ? "☐" : "☑"));
  const shift = Math.min(width, ...lines.slice(1).filter((line) => line.trim()).map(indentOf).filter((n) => n >= 2));
  return blocks([first, ...lines.slice(1).map((line) => line.slice(Math.min(shift, indentOf(line))))], depth + 1);
}

function isTable(lines, at) {
  const [head, divider = ""] = lines.slice(at, at + 2);
  if (!head.includes("|") || !divider.includes("-") || !DIVIDER.test(divider)) return false;
  return cells(head).length === cells(divider).length;
}

function table(lines, at) {
  const sides = cells(lines[at + 1]).map((cell) => SIDES[`${cell.startsWith(":")} ${cell.endsWith(":")}`] ?? "");
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && !interrupts(lines, end)) end++;
  const row = (tag, line, open) => {
    const texts = cells(line);
    return el("tr", {}, ...sides.map((side, i) => el(tag, { className: side }, inline(texts[i] ?? "", open))));
  };
  const build = (open) => {
    const body = lines.slice(at + 2, end).map((line, i, all) => row("td", line, open && i === all.length - 1));
    const parts = [el("thead", {}, row("th", lines[at], false)), el("tbody", {}, ...body)];
    return el("div", { className: "wide", tabIndex: 0 }, el("table", {}, ...parts));
  };
  return { end, build };
}

// A bar in code or behind a backslash is no border.
function cells(line) {
  const parts = line.trim().replace(/^\|/, "").match(/(?:\\.|(`+)(?:(?!\1).)*\1|[^|\\]|\\$)+|\|/g) ?? [];
  const found = [""];
  for (const part of parts) part === "|" ? found.push("") : (found[found.length - 1] += part);
  if (found.length > 1 && !found.at(-1).trim()) found.pop();
  return found.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

const built = (inside, open) => inside.map((block, i) => block.build(open && i === inside.length - 1));
const untabbed = (line) => line.replace(/^\s+/, (indent) => indent.replaceAll("\t", "    "));
const indentOf = (line) => untabbed(line).search(/\S|$/);

function skipBlank(lines, at) {
  while (at < lines.length && !lines[at].trim()) at++;
  return at;
}
