"""What a person does on the page, and what is then seen."""

from __future__ import annotations

from playwright.sync_api import Page, expect


def say(page: Page, question: str) -> None:
    """Ask, and do not wait for the answer."""
    page.fill("#question", question)
    page.press("#question", "Enter")


def ask(page: Page, question: str) -> None:
    """Ask, and wait for the whole answer."""
    say(page, question)
    expect(page.locator(".answer").last).to_have_attribute("aria-busy", "false")


def answers(page: Page) -> list[str]:
    """The texts of the answers on the screen."""
    return page.locator(".answer .text").all_inner_texts()


def questions(page: Page) -> list[str]:
    return page.locator(".question .said").all_inner_texts()


def reload(page: Page) -> None:
    page.reload()
    page.wait_for_selector("#model option", state="attached")
