// The one way in which nodes are made here. Strings become text nodes; nothing is ever parsed as HTML.

export function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export const button = (label, onclick, properties = {}) =>
  el("button", { type: "button", onclick, ...properties }, label);

export const byId = (id) => document.getElementById(id);

// Make the children of `parent` from the `from`-th on equal to `wanted`, touching only what differs: a selection
// and the scrolling of a wide code block survive while the text below them grows.
export function morph(parent, from, wanted) {
  wanted.forEach((node, i) => {
    const have = parent.childNodes[from + i];
    if (!have) parent.append(node);
    else if (have.isEqualNode(node)) return;
    else if (have.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) grow(have, node.data);
    else if (have.cloneNode(false).isEqualNode(node.cloneNode(false))) morph(have, 0, [...node.childNodes]);
    else have.replaceWith(node);
  });
  while (parent.childNodes.length > from + wanted.length) parent.lastChild.remove();
}

function grow(text, data) {
  if (data.startsWith(text.data)) text.appendData(data.slice(text.length));
  else text.data = data;
}

// `navigator.clipboard` is there on https and localhost only; a phone in the same network has neither.
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = el("textarea", { value: text, className: "offscreen" });
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
