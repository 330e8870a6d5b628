"""The page in a real browser: asking, stopping, retrying, editing, what goes wrong."""

from __future__ import annotations

from page_parts import Answering, serving_page
from page_steps import answers, ask, questions, reload, say
from playwright.sync_api import Browser, Page, expect

from chatcli.errors import EngineError
from chatcli.generation import EngineFacts, Finished, Reasoning, Text
from chatcli.server.api.guard import Guard
from chatcli.server.api.service import Limits

CODE = (
    "# Sum\n\nA *sum* in `Python`:\n\n```python\ntotal = sum([1, 2])  # three\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n"
)


def test_a_question_streams_in_and_what_is_finished_is_not_built_again(tab: Page, engine: Answering) -> None:
    engine.scripts["Wait for it"] = ""
    say(tab, "Wait for it")
    text = tab.locator(".answer .text")
    expect(text).to_contain_text("The beginning.")
    first = tab.query_selector(".answer .text p")
    assert first is not None and tab.locator(".answer").get_attribute("aria-busy") == "true"
    engine.go.set()
    expect(text).to_have_text("The beginning. The end.")
    expect(tab.locator(".answer")).to_have_attribute("aria-busy", "false")
    assert first.evaluate("node => node.isConnected") and first.inner_text() == "The beginning. The end."


def test_an_answer_is_markdown_with_its_counts(tab: Page, engine: Answering) -> None:
    engine.scripts["A sum?"] = CODE
    ask(tab, "A sum?")
    text = tab.locator(".answer .text")
    assert text.locator("h1").inner_text() == "Sum"
    assert text.locator("p em").inner_text() == "sum" and text.locator("p code").inner_text() == "Python"
    assert text.locator("pre code").inner_text() == "total = sum([1, 2])  # three"
    assert text.locator("pre .comment").inner_text() == "# three"
    assert "monospace" in text.locator("pre code").evaluate("node => getComputedStyle(node).fontFamily")
    assert text.locator("td").all_inner_texts() == ["1", "2"]
    assert "tokens" in tab.locator(".answer .facts").inner_text()


def test_code_and_answers_are_copied(tab: Page, engine: Answering) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    engine.scripts["A sum?"] = CODE
    ask(tab, "A sum?")
    tab.click(".code button.copy")
    expect(tab.locator(".code button.copy")).to_have_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == "total = sum([1, 2])  # three"
    tab.click(".answer .tools button:text-is('Copy')")
    tab.wait_for_function("async wanted => (await navigator.clipboard.readText()) === wanted", arg=CODE)


def test_what_a_model_thinks_is_folded(tab: Page, engine: Answering) -> None:
    engine.scripts["Think"] = [Reasoning("<b>First</b>, "), Reasoning("then."), Text("Done."), Finished("stop", 3, 5)]
    ask(tab, "Think")
    assert answers(tab) == ["Done."]
    assert not tab.locator(".thoughts").is_visible()
    tab.click(".answer summary")
    assert tab.locator(".thoughts").inner_text() == "<b>First</b>, then."


def test_stop_keeps_what_has_come_and_frees_the_model(tab: Page, engine: Answering) -> None:
    for stop in (lambda: tab.click("#stop"), lambda: tab.press("#question", "Escape")):
        say(tab, "Wait")
        expect(tab.locator(".answer .text").last).to_contain_text("The beginning.")
        stop()
        expect(tab.locator(".answer .note").last).to_have_text("Stopped.")
        expect(tab.locator("#send")).to_be_visible()
    assert answers(tab) == ["The beginning."] * 2
    while engine.cancelled < 2:  # the test's own limit ends it
        tab.wait_for_timeout(10)


def test_retry_gives_another_answer_beside_the_first(tab: Page, engine: Answering) -> None:
    engine.scripts["Toss"] = "Heads."
    ask(tab, "Toss")
    engine.scripts["Toss"] = "Tails."
    tab.click("button.retry")
    expect(tab.locator(".answer .text")).to_have_text("Tails.")
    assert [message.text for message in engine.asked[-1].messages] == ["Toss"]
    expect(tab.locator(".answer .versions")).to_contain_text("2/2")
    tab.click("[title='Earlier version']")
    assert answers(tab) == ["Heads."]
    ask(tab, "Go on")
    assert [message.text for message in engine.asked[-1].messages] == ["Toss", "Heads.", "Go on"]


def test_an_earlier_question_is_edited_and_the_first_talk_stays(tab: Page, engine: Answering) -> None:
    ask(tab, "One")
    ask(tab, "Two")
    tab.locator("button.edit").first.click()
    tab.locator(".editor textarea").fill("Uno")
    tab.locator(".editor textarea").press("Enter")
    expect(tab.locator(".answer .text")).to_have_text("You said: Uno")
    assert questions(tab) == ["Uno"]
    assert [message.text for message in engine.asked[-1].messages] == ["Uno"]
    tab.click("[title='Earlier version']")
    assert questions(tab) == ["One", "Two"] and answers(tab) == ["You said: One", "You said: Two"]


def test_up_edits_the_last_question_and_escape_leaves_it(tab: Page, engine: Answering) -> None:
    ask(tab, "One")
    tab.press("#question", "ArrowUp")
    expect(tab.locator(".editor textarea")).to_be_focused()
    tab.keyboard.press("Escape")
    assert questions(tab) == ["One"] and tab.locator(".editor").count() == 0


def test_enter_of_an_input_method_does_not_send(tab: Page, engine: Answering) -> None:
    tab.fill("#question", "你好，世界")
    tab.evaluate(
        """for (const isComposing of [true, false]) document.getElementById("question").dispatchEvent(
            new KeyboardEvent("keydown", {key: "Enter", isComposing, keyCode: 229, bubbles: true}))"""
    )
    tab.press("#question", "Shift+Enter")
    assert questions(tab) == [] and tab.input_value("#question") == "你好，世界\n"
    tab.press("#question", "Enter")
    expect(tab.locator(".answer .text")).to_have_text("You said: 你好，世界")
    assert tab.title() == "你好，世界 · chatcli"


def test_settings_and_the_model_are_sent_and_kept(tab: Page, engine: Answering) -> None:
    tab.click("#open-settings")
    for name, value in {"system": "Be brief.", "temperature": "0.25", "top_p": "0.5", "max_tokens": "7"}.items():
        tab.fill(f"[name={name}]", value)
    tab.press("[name=max_tokens]", "Enter")
    tab.select_option("#model", "large")
    reload(tab)
    assert tab.input_value("#model") == "large"
    ask(tab, "On large")
    assert engine.asked == []
    tab.select_option("#model", "small")
    ask(tab, "On small")
    first = engine.asked[0].messages[0]
    assert (first.role, first.text) == ("system", "Be brief.")
    said = engine.settings[0]
    assert (said.temperature, said.top_p, said.max_new_tokens) == (0.25, 0.5, 7)
    tab.click("#open-settings")
    tab.click("#reset")
    tab.click("#settings [value=save]")
    ask(tab, "Again")
    assert engine.settings[-1].temperature != 0.25 and engine.asked[-1].messages[0].role == "user"


def test_the_screen_follows_the_answer_only_while_its_end_is_looked_at(tab: Page, engine: Answering) -> None:
    engine.scripts["Long"] = "line\n\n" * 60
    ask(tab, "Long")
    assert tab.evaluate("(s => s.scrollHeight - s.scrollTop - s.clientHeight)(document.getElementById('scroll'))") < 8
    say(tab, "Wait")
    expect(tab.locator(".answer .text").last).to_contain_text("The beginning.")
    tab.evaluate("document.getElementById('scroll').scrollTop = 40")
    expect(tab.locator("#down")).to_be_visible()
    engine.go.set()
    expect(tab.locator(".answer .text").last).to_contain_text("The end.")
    assert tab.evaluate("document.getElementById('scroll').scrollTop") == 40
    tab.click("#down")
    expect(tab.locator("#down")).to_be_hidden()


def test_an_engine_that_breaks_is_told_of_and_what_had_come_is_kept(tab: Page, engine: Answering) -> None:
    engine.scripts["Break"] = [Text("Half an "), EngineError("The model fell over.")]
    ask(tab, "Break")
    assert answers(tab) == ["Half an"]
    expect(tab.locator(".answer .note.error")).not_to_be_empty()
    engine.scripts["Break"] = "Whole."
    tab.click("button.retry")
    expect(tab.locator(".answer .text")).to_have_text("Whole.")


def test_a_server_that_is_gone_is_told_of_in_a_sentence(tab: Page, engine: Answering) -> None:
    tab.route("**/v1/chat/completions", lambda route: route.abort())
    ask(tab, "Hello?")
    assert tab.inner_text(".answer .note") == "The server cannot be reached. Is it still running?"
    tab.unroute("**/v1/chat/completions")
    tab.click("button.retry")
    expect(tab.locator(".answer .text")).to_have_text("You said: Hello?")
    assert tab.locator(".answer .versions").count() == 0, "an answer that never came is no version"


def test_what_attacks_stays_text_wherever_it_comes_from(tab: Page, engine: Answering) -> None:
    attack = "<img src=x onerror=hacked=1><script>hacked=1</script>"
    engine.scripts[attack] = [Reasoning(attack), Text(f"{attack}\n\n[go](javascript:hacked=1)"), Finished("stop", 1, 1)]
    ask(tab, attack)
    tab.route("**/v1/chat/completions", lambda route: route.fulfill(status=500, json={"error": {"message": attack}}))
    ask(tab, attack)
    tab.hover("#talks li")
    reload(tab)
    assert questions(tab) == [attack] * 2 and tab.inner_text("#title") == tab.inner_text("#talks .title")
    assert tab.locator(".answer .text").first.inner_text() == f"{attack}\n\n[go](javascript:hacked=1)"
    assert tab.inner_text(".answer .note:visible") == attack
    assert tab.locator("img, main script, .answer a").count() == 0 and tab.evaluate("typeof hacked") == "undefined"


def test_a_stream_that_ends_early_is_told_of(tab: Page, engine: Answering) -> None:
    body = 'data: {"choices": [{"delta": {"content": "Half"}}]}\n\n'
    tab.route("**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    ask(tab, "Hello?")
    assert answers(tab) == ["Half"] and tab.inner_text(".answer .note") == "The connection ended in mid-answer."


def test_a_busy_server_is_told_of_and_asked_again(browser: Browser) -> None:
    busy = Answering()
    with serving_page({"small": busy}, limits=Limits(places=1, queue=0)) as address, browser.new_context() as context:
        first, second = context.new_page(), context.new_page()
        for page in (first, second):
            page.goto(address)
            page.wait_for_selector("#model option", state="attached")
        say(first, "Wait")
        expect(first.locator(".answer .text")).to_contain_text("The beginning.")
        ask(second, "Me too")
        expect(second.locator(".answer .note")).to_have_text("The server is busy: try again in 1 second.")
        busy.go.set()
        expect(first.locator(".answer .text")).to_contain_text("The end.")
        second.click("button.retry")
        expect(second.locator(".answer .text")).to_have_text("You said: Me too")


class Vectors(Answering):
    """A model that chats with nobody."""

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts("vectors", chats=False)


def test_a_model_that_makes_vectors_is_not_offered(browser: Browser) -> None:
    served = {"vectors": Vectors(), "small": Answering()}
    with serving_page(served) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#model option", state="attached")
        assert page.locator("#model option").all_text_contents() == ["small"]
        told = page.evaluate("fetch('v1/models').then((answer) => answer.json())")["data"]
        assert [(each["id"], each["type"]) for each in told] == [("vectors", "embeddings"), ("small", "llm")]
    with serving_page({"vectors": Vectors()}) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        expect(page.get_by_text("No model here chats: this server makes vectors only.")).to_be_visible()


def test_a_server_with_a_key_asks_for_it_and_keeps_it_for_the_tab_alone(browser: Browser) -> None:
    guard = Guard(keys=("open sesame",))
    with serving_page({"small": Answering()}, guard) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#key-note")).to_have_text("This server wants an API key.")
        page.fill("#key input", "wrong")
        page.press("#key input", "Enter")
        expect(page.locator("#key-note")).to_have_text("The server did not accept this key.")
        page.fill("#key input", "open sesame")
        page.click("#key [value=save]")
        page.wait_for_selector("#model option", state="attached")
        ask(page, "Hello")
        assert answers(page) == ["You said: Hello"]
        assert "sesame" not in page.evaluate("JSON.stringify(localStorage)")
        reload(page)
        page.evaluate("sessionStorage.clear()")
        say(page, "Still there?")
        page.click("#key .cancel")
        expect(page.locator(".answer .note").last).to_have_text("This server wants an API key.")
