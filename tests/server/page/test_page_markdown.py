"""The page's Markdown, run in the browser that has to show it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

RENDER = """async (texts) => {
  const { MarkdownStream } = await import("/page/markdown.js");
  return texts.map((text) => {
    const root = document.createElement("div");
    new MarkdownStream(root).show(text, true);
    return root.innerHTML;
  });
}"""

IN_PIECES = """async ([text, cuts]) => {
  const { MarkdownStream } = await import("/page/markdown.js");
  const shown = (pieces) => {
    const root = document.createElement("div");
    const stream = new MarkdownStream(root);
    pieces.forEach((piece, i) => stream.show(piece, i === pieces.length - 1));
    return root.innerHTML;
  };
  const whole = shown([text]);
  return cuts.map((places) => shown([...places.map((at) => text.slice(0, at)), text])).filter((html) => html !== whole);
}"""

CASES = {
    "a **bold** and *leaning* ~~gone~~": "<p>a <strong>bold</strong> and <em>leaning</em> <del>gone</del></p>",
    "***both***, *em **strong***": "<p><strong><em>both</em></strong>, <em>em <strong>strong</strong></em></p>",
    "snake_case_name, 2 * 3 * 4, a_b": "<p>snake_case_name, 2 * 3 * 4, a_b</p>",
    "**说明：**这是*中文*。": "<p><strong>说明：</strong>这是<em>中文</em>。</p>",
    "one\ntwo": "<p>one<br>two</p>",
    "`a *b* ``c` and ``d ` e``": "<p><code>a *b* ``c</code> and <code>d ` e</code></p>",
    "# H *1*\n### H3 ##\n#no": "<h1>H <em>1</em></h1><h3>H3</h3><p>#no</p>",
    "a\n\n---\nb": "<p>a</p><hr><p>b</p>",
    "> a\n> > b\n\nc": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>",
    "- a\n  - b\n- c": "<ul><li><p>a</p><ul><li><p>b</p></li></ul></li><li><p>c</p></li></ul>",
    "-\ta\n\t- b\n\n\t  c": "<ul><li><p>a</p><ul><li><p>b</p><p>c</p></li></ul></li></ul>",
    "3. a\n\n   more\n4. b": '<ol start="3"><li><p>a</p><p>more</p></li><li><p>b</p></li></ol>',
    "- [x] done\n- [ ] not": "<ul><li><p>☑ done</p></li><li><p>☐ not</p></li></ul>",
    "  ```\n\ta\n  b\n  ```": '<div class="code"><div class="bar"><span></span><button type="button" class="copy">Copy'
    '</button></div><pre tabindex="0"><code>\ta\nb</code></pre></div>',
    "In\n1998. it was": "<p>In<br>1998. it was</p>",
    r"\*not\* \(x_1 * y_2 * z\)": '<p>*not* <span class="math">\\(x_1 * y_2 * z\\)</span></p>',
    "a | b": "<p>a | b</p>",
    "| a | b |\n|:-:|--:|\n| `x|y` | 1\\|2 |\n| only |": '<div class="wide" tabindex="0"><table>'
    '<thead><tr><th class="center">a</th><th class="right">b</th></tr></thead>'
    '<tbody><tr><td class="center"><code>x|y</code></td><td class="right">1|2</td></tr>'
    '<tr><td class="center">only</td><td class="right"></td></tr></tbody></table></div>',
    "**not closed and `neither": "<p>**not closed and `neither</p>",
    "x<br>y": "<p>x<br>y</p>",
}

LINK = '<a href="{0}" title="{0}" target="_blank" rel="noopener noreferrer">{1}</a>'
LINKS = {
    "[a *b*](https://e.org/x_(y))": LINK.format("https://e.org/x_(y)", "a <em>b</em>"),
    "https://e.org/a_b.": LINK.format("https://e.org/a_b", "https://e.org/a_b") + ".",
    "(https://e.org/)": "(" + LINK.format("https://e.org/", "https://e.org/") + ")",
    "<mailto:a@e.org>": LINK.format("mailto:a@e.org", "mailto:a@e.org"),
    "![cat](https://e.org/cat.png)": LINK.format("https://e.org/cat.png", "cat"),
    "见https://e.org/，好": "见" + LINK.format("https://e.org/", "https://e.org/") + "，好",
    "[a](/relative) [b](#c)": "[a](/relative) [b](#c)",
}

# What a model may be made to write: markup, scripts, addresses that run code, marks that break out of an attribute.
ATTACKS = (
    "<img src=x onerror=hacked=1>",
    "<script>hacked=1</script>",
    "<svg/onload=hacked=1><iframe srcdoc='<script>parent.hacked=1</script>'>",
    "[a](javascript:hacked=1)",
    "[a](JaVaScRiPt:hacked=1) [b](  javascript:hacked=1) [c](java\tscript:hacked=1)",
    "[a](data:text/html,<script>hacked=1</script>)",
    "[a](vbscript:x) [b](file:///etc/passwd) [c](blob:x)",
    '[a](https://e.org/"onmouseover="hacked=1)',
    '![a](x" onerror="hacked=1) ![b](javascript:hacked=1)',
    "<javascript:hacked=1> <https://e.org/'onclick='hacked=1>",
    '```"><img src=x onerror=hacked=1>\n</code></pre><script>hacked=1</script>\n```',
    "| <img src=x onerror=hacked=1> | b |\n|---|---|\n| <script>hacked=1</script> | [x](javascript:hacked=1) |",
    "# <style>*{display:none}</style>\n- <base href=//evil.example>\n> <form action=//evil.example><button>",
    "<a href='javascript:hacked=1'>x</a> &lt;img src=x onerror=hacked=1&gt; &#106;avascript:hacked=1",
)


@pytest.fixture(scope="module")
def blank(browser: Browser, address: str) -> Iterator[Page]:
    """A tab with the page in it, for the modules alone."""
    with browser.new_page() as page:
        page.goto(address)
        yield page


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Texts in which all kinds of blocks meet: this file's cases, one after another, and the project's own pages."""
    docs = Path(__file__).parents[3] / "docs"
    mixed = list({**CASES, **LINKS})
    fences = [
        "```python\ndef f():\n    return 1\n```",
        "~~~\n```\n~~~",
        "1. code:\n   ```sh\n   ls\n   ```\n2. b",
        "- a\n\n  b\n\nc",
    ]
    chance = random.Random(5)
    orders = [chance.sample([*mixed, *fences, *ATTACKS], 14) for _ in range(8)]
    glued = ["\n\n".join(order) for order in orders] + ["\n".join(order) for order in orders]
    return [*glued, *((docs / name).read_text(encoding="utf-8")[:6000] for name in ("models.md", "speed.md"))]


def test_markdown_is_what_it_should_be(blank: Page) -> None:
    assert dict(zip(CASES, blank.evaluate(RENDER, list(CASES)), strict=True)) == CASES


COLOURS = {
    "python": (
        'def f():\n    return \'a # b\' + 12  # no\nx = """one\ntwo"""',
        'def return \'a # b\' 12 # no """one\ntwo"""',
    ),
    "js": ("let a = `b\n${c}`; // d\n/* e\n f */ null", "let `b\n${c}` // d /* e\n f */ null"),
    "SQL": ("SELECT 'it' FROM t -- all", "SELECT 'it' FROM -- all"),
    "sh": ('echo $# "a\\"b" # c', 'echo "a\\"b" # c'),
    "prose": ("let it be 12 'years'", ""),
}


def test_code_keeps_its_text_and_gets_colours(blank: Page) -> None:
    spans = """async ([text, language]) => {
      const { highlighted } = await import("/page/highlight.js");
      const made = highlighted(text, language);
      return [made.textContent, [...made.querySelectorAll("span")].map((span) => span.textContent).join(" ")];
    }"""
    for language, (text, coloured) in COLOURS.items():
        assert blank.evaluate(spans, [text, language]) == [text, coloured]


def test_links_lead_to_the_web_and_nowhere_else(blank: Page) -> None:
    wanted = {text: f"<p>{html}</p>" for text, html in LINKS.items()}
    assert dict(zip(LINKS, blank.evaluate(RENDER, list(LINKS)), strict=True)) == wanted


def test_a_text_in_pieces_becomes_what_the_whole_text_is(blank: Page, texts: list[str]) -> None:
    chance = random.Random(7)
    for text in texts:
        cuts = [sorted(chance.randrange(len(text)) for _ in range(chance.choice([1, 3, 20, 200]))) for _ in range(12)]
        assert blank.evaluate(IN_PIECES, [text, cuts]) == []
        if len(text) < 1500:
            assert blank.evaluate(IN_PIECES, [text, [list(range(len(text)))]]) == [], "character by character"


def test_what_attacks_stays_text(blank: Page) -> None:
    found = blank.evaluate(
        """async (texts) => {
          const { MarkdownStream } = await import("/page/markdown.js");
          const root = document.getElementById("log");
          const bad = [];
          for (const text of texts) for (const done of [false, true]) {
            root.replaceChildren();
            new MarkdownStream(root).show(text, done);
            for (const node of root.querySelectorAll("*")) {
              const plain = new RegExp("^(A|P|H\\\\d|UL|OL|LI|BLOCKQUOTE|DIV|SPAN|PRE|CODE|BUTTON" +
                "|TABLE|THEAD|TBODY|TR|TH|TD|EM|STRONG|BR)$");
              const handlers = node.getAttributeNames().filter((name) => name.startsWith("on"));
              const safe = node.tagName !== "A" || /^(https?|mailto):$/.test(node.protocol);
              if (!plain.test(node.tagName) || handlers.length || !safe) bad.push([text, node.outerHTML]);
            }
          }
          await new Promise((done) => setTimeout(done, 50));
          return [bad, typeof hacked];
        }""",
        list(ATTACKS),
    )
    assert found == [[], "undefined"]


def test_no_text_takes_long(blank: Page) -> None:
    """A parser that looks for the end of each mark to the end of the text takes minutes here."""
    marks = [
        "*",
        "**a ",
        "_a ",
        "`",
        "``",
        "[",
        "![",
        "[a](",
        "~~a ",
        "<",
        "> ",
        "- ",
        "- a\n",
        "- a\n\nb\n\n",
        "| ",
        "\\(",
        "http://",
    ]
    texts = [
        *(mark * 20_000 for mark in marks),
        f"#{' ' * 20_000}x #",
        f"```{' ' * 20_000}`",
        f"|{' ' * 20_000}|\n|-{' ' * 20_000}x",
    ]
    assert all(blank.evaluate(RENDER, texts))
