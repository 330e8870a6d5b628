"""The page in a real browser: saved talks, and how it looks."""

from __future__ import annotations

import json
from pathlib import Path

from page_parts import Answering
from page_steps import answers, ask, questions, reload, say
from playwright.sync_api import Browser, Page, expect

from chatcli.history.importing import read_conversations

WIDE = (
    f"```\n{'wide ' * 60}\n```\n\n{'x' * 300}\n\n`{'y' * 200}`\n\n"
    f"| {'head | ' * 12}\n|{'---|' * 12}\n| {'cell | ' * 12}\n"
)


def titles(page: Page) -> list[str]:
    return page.locator("#talks .title").all_inner_texts()


def test_talks_are_there_after_a_reload(tab: Page, engine: Answering) -> None:
    ask(tab, "The first talk")
    tab.click("#new")
    ask(tab, "第二个对话")
    tab.fill("#question", "not sent yet")
    reload(tab)
    assert questions(tab) == ["第二个对话"] and answers(tab) == ["You said: 第二个对话"]
    assert tab.input_value("#question") == "not sent yet"
    assert titles(tab) == ["第二个对话", "The first talk"]
    tab.click("#talks .title >> nth=1")
    assert answers(tab) == ["You said: The first talk"] and tab.input_value("#question") == ""
    tab.go_back()
    assert questions(tab) == ["第二个对话"]


def test_a_reload_in_mid_answer_keeps_what_has_come(tab: Page, engine: Answering) -> None:
    say(tab, "Wait")
    expect(tab.locator(".answer .text")).to_contain_text("The beginning.")
    reload(tab)
    assert answers(tab) == ["The beginning."]
    assert tab.inner_text(".answer .note") == "This answer was cut off."
    engine.go.set()
    tab.click("button.retry")
    expect(tab.locator(".answer .text")).to_have_text("The beginning. The end.")


def test_an_answer_goes_on_while_another_talk_is_read(tab: Page, engine: Answering) -> None:
    ask(tab, "Read me")
    tab.click("#new")
    say(tab, "Wait")
    expect(tab.locator(".answer .text")).to_contain_text("The beginning.")
    tab.click("#talks .title >> text=Read me")
    assert answers(tab) == ["You said: Read me"]
    expect(tab.locator("#send")).to_be_visible()
    engine.go.set()
    tab.click("#talks .title >> text=Wait")
    expect(tab.locator(".answer .text")).to_have_text("The beginning. The end.")


def test_talks_are_searched_renamed_and_deleted_with_a_way_back(tab: Page, engine: Answering) -> None:
    for question in ("Apples", "Pears", "Plums"):
        ask(tab, question)
        tab.click("#new")
    tab.fill("#search", "said PEARS")
    assert titles(tab) == ["Pears"]
    tab.hover("#talks li")
    tab.click("[aria-label='Rename Pears']")
    tab.locator("#talks input").fill("Fruit")
    tab.keyboard.press("Enter")
    assert titles(tab) == ["Fruit"]
    tab.hover("#talks li")
    tab.click("[aria-label='Delete Fruit']")
    assert titles(tab) == [] and tab.inner_text("#no-talks") == "No talk has these words."
    tab.fill("#search", "")
    reload(tab)
    assert titles(tab) == ["Plums", "Apples"]
    tab.hover("#talks li >> nth=0")
    tab.click("[aria-label='Delete Plums']")
    tab.click("#notice >> text=Undo")
    assert titles(tab) == ["Plums", "Apples"]


def test_a_talk_that_is_deleted_in_mid_answer_does_not_come_back(tab: Page, engine: Answering) -> None:
    say(tab, "Wait")
    expect(tab.locator(".answer .text")).to_contain_text("The beginning.")
    tab.hover("#talks li")
    tab.click("[aria-label='Delete Wait']")
    expect(tab.locator("#log .empty")).to_be_visible()
    while not engine.cancelled:  # the test's own limit ends it
        tab.wait_for_timeout(10)
    reload(tab)
    assert titles(tab) == []


def test_talks_are_exported_for_other_programs_and_taken_in_again(tab: Page, engine: Answering, tmp_path: Path) -> None:
    ask(tab, "Toss")
    tab.click("button.retry")
    expect(tab.locator(".answer .versions")).to_contain_text("2/2")
    with tab.expect_download() as download:
        tab.click("#export")
    file = tmp_path / "talks.json"
    download.value.save_as(file)
    reading = read_conversations(file.read_text(encoding="utf-8"), 0.0)
    assert [[m.text for m in each.messages] for each in reading.conversations] == [["Toss", "You said: Toss"]]
    assert reading.conversations[0].title == "Toss" and not reading.skipped
    tab.evaluate("localStorage.clear()")
    tab.goto(tab.url.partition("#")[0])
    tab.set_input_files("#file", file)
    expect(tab.locator("#notice")).to_contain_text("Imported 1 talk.")
    tab.click("#talks .title")
    expect(tab.locator(".answer .versions")).to_contain_text("2/2")


def test_a_file_that_is_no_export_is_told_of(tab: Page, tmp_path: Path) -> None:
    """The walk to the beginning of the second would go round and round, and the others could not be drawn."""

    def talk(tip: int = 0, **said: object) -> str:
        message = {"role": "assistant", "content": "", "parent": -1, **said}
        return json.dumps([{"id": "a", "title": "", "updated": 1, "tip": tip, "said": [message]}])

    texts = {
        "broken.json": '{"id": "a',
        "circle.json": talk(parent=0),
        "nowhere.json": talk(tip=-5),
        "words.json": talk(first="soon"),
        "tokens.json": talk(usage={"asked": 1, "said": [2]}),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        tab.set_input_files("#file", tmp_path / name)
        expect(tab.locator("#notice")).to_contain_text(name)
        assert titles(tab) == []


def test_a_full_storage_is_told_of_and_the_answer_still_shown(tab: Page, engine: Answering) -> None:
    tab.evaluate(
        """for (let size = 1 << 22; size > 8; size >>= 1)
            try { localStorage["x" + size] = "x".repeat(size) } catch { /* a smaller piece may fit */ }"""
    )
    say(tab, "Hello")
    expect(tab.locator("#notice")).to_contain_text("no room for more talks")
    expect(tab.locator(".answer .text")).to_have_text("You said: Hello")


def test_dark_follows_the_system_until_one_is_chosen(tab: Page) -> None:
    def brightness() -> int:
        colour = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    assert brightness() > 600
    tab.emulate_media(color_scheme="dark")
    assert brightness() < 150
    tab.click("#theme")
    assert brightness() > 600
    reload(tab)
    assert brightness() > 600
    tab.click("#theme")
    tab.emulate_media(color_scheme="light")
    assert brightness() < 150


def test_a_phone_has_all_of_it_and_scrolls_in_one_direction(browser: Browser, address: str, engine: Answering) -> None:
    engine.scripts["Wide"] = WIDE
    with browser.new_context(viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True) as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#model option", state="attached")
        ask(page, "Wide")
        assert (
            page.evaluate(
                "[document.documentElement.scrollWidth, innerWidth, document.getElementById('log').scrollWidth]"
            )
            == [360] * 3
        )
        expect(page.locator("#drawer")).to_be_hidden()
        page.tap("#open-drawer")
        expect(page.locator("#drawer")).to_be_visible()
        page.tap("#new")
        expect(page.locator("#drawer")).to_be_hidden()
        assert questions(page) == []
        box = page.locator("#send").bounding_box()
        assert box is not None and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 640


def test_the_keyboard_alone_is_enough(tab: Page, engine: Answering) -> None:
    ask(tab, "One")
    tab.locator("#new").focus()
    names = [""]
    while names[-1] != "Your question" and len(names) < 30:
        names.append(tab.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText"))
        tab.keyboard.press("Tab")
    reached = [
        "New talk",
        "Search talks",
        "One",
        "Rename One",
        "Delete One",
        "Settings",
        "Export talks",
        "Edit",
        "Retry",
        "Your question",
    ]
    assert [name for name in names if name in reached] == reached
