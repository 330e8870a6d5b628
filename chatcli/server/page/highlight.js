// Colours for code: comments, strings, numbers and the words that most languages share. One pattern, no grammars:
// a wrong colour is the worst that can happen, and the text is always the text.

import { el } from "./dom.js";

const HASH = "bash docker dockerfile fish make makefile perl py python r rb ruby sh shell toml yaml yml zsh";
const SLASHES = `
  c c++ cc cpp cs csharp css dart go h hpp java javascript js json jsonc jsx kotlin kt php rs rust scala scss
  swift ts tsx typescript zig`;
const DASHES = "haskell hs lua sql";

const COMMENTS = [
  [HASH, "#.*"],
  [SLASHES, "\\/\\/.*|\\/\\*[^]*?(?:\\*\\/|$)"],
  [DASHES, "--.*"],
];

const KEYWORDS = `
  abstract and as assert async await bool break case catch chan char class const continue def default defer del do
  done double echo elif else end enum esac except export extends false fi final finally float fn for from func
  function global go goto if impl implements import in int interface is lambda let local long loop match mod
  module mut new nil none None not null or package pass private protected pub public raise readonly ref require
  return self short static struct super switch then this throw throws trait true True False try type typedef
  typeof union unless unsafe until use using var void volatile where while with yield`;
const SQL = `
  select from where insert into values update set delete create table index drop alter join left right inner outer
  on group by order having limit and or not null as distinct primary key union case when then else end`;

const patterns = new Map();
for (const [languages, comment] of COMMENTS) {
  for (const language of languages.match(/\S+/g)) patterns.set(language, pattern(language, comment));
}

function pattern(language, comment) {
  const words = (language === "sql" ? SQL : KEYWORDS).match(/\S+/g).join("|");
  const kinds = [
    String.raw`(?<comment>(?<![\w$&])(?:${comment}))`,
    String.raw`(?<string>"""[^]*?(?:"""|$)|'{3}[^]*?(?:'{3}|$)|${quoted('"')}?|${quoted("'")}|${quoted("`", "")})`,
    String.raw`(?<number>\b\d[\w.]*)`,
    String.raw`(?<word>\b(?:${words})\b)`,
  ];
  return new RegExp(kinds.join("|"), language === "sql" ? "gi" : "g");
}

// A string between two `mark`s, in one line; `end` says what it may not hold beside them.
function quoted(mark, end = "\\n") {
  return String.raw`${mark}(?:\\.|[^${mark}\\${end}])*${mark}`;
}

export function highlighted(text, language) {
  const out = document.createDocumentFragment();
  const known = patterns.get(language.toLowerCase());
  let at = 0;
  for (const found of known ? text.matchAll(known) : []) {
    const [kind] = Object.entries(found.groups).find(([, value]) => value !== undefined);
    if (found.index > at) out.append(text.slice(at, found.index));
    out.append(el("span", { className: kind }, found[0]));
    at = found.index + found[0].length;
  }
  if (at < text.length) out.append(text.slice(at));
  return out;
}
