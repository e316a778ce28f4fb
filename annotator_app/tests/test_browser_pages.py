"""Every page and dialog: nothing that axe finds, and German without a text that is cut or missing."""

import re

import pytest
from browser import LAPTOP, PHONE, decide, wait_ready
from served import Served, set_policy

from benchmarks.review_fixtures import make_workspace

pytestmark = pytest.mark.slow
SCREENS = {
    "laptop": {"viewport": LAPTOP},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True, "device_scale_factor": 2},
    "dark at 200 %": {
        "viewport": {"width": 683, "height": 384}, "device_scale_factor": 2, "color_scheme": "dark",
    },
    "4K": {"viewport": {"width": 3840, "height": 2160}},
}  # fmt: skip
CUT = """// What is shortened on purpose is left out.
[...document.querySelectorAll("body *")].filter((one) => {
  if (!one.checkVisibility() || ["INPUT", "SELECT", "OPTION"].includes(one.tagName)) return false;
  if (one.closest(".unseen, #queue-name, #saving, .who, .stage, .correct-picture")) return false;
  const range = document.createRange();
  range.selectNodeContents(one);
  const text = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  return text && (range.getBoundingClientRect().width > one.getBoundingClientRect().width + 1);
}).map((one) => `${one.tagName} ${one.textContent.trim().slice(0, 40)}`)"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "workspace"
    make_workspace(folder, 30, images=6, size=128, faces=300)
    set_policy(folder, overlap_share=0.0, gold_share=0.0)
    with Served(folder) as started:
        yield started


def places(page, url):
    """Every page and dialog of the review, open one after another."""
    page.goto(f"{url}/login")
    yield "login"
    page.goto(url)
    wait_ready(page)
    decide(page, "a")
    wait_ready(page)
    page.wait_for_timeout(400)
    yield "loop"
    for key, name in (("h", "help"), ("q", "queue"), ("x", "reasons"), ("f", "note")):
        wait_ready(page)
        page.keyboard.press(key)
        page.wait_for_selector(f"#{name}[open]")
        yield name
        if name == "queue":
            page.click("#queue-more summary")
            yield "filters"
        if name == "reasons":
            page.keyboard.press("6")
            page.wait_for_selector("#other-form:not([hidden])")
            yield "another reason"
        page.keyboard.press("Escape")
        page.wait_for_selector(f"#{name}", state="hidden")
    page.keyboard.press("g")
    page.wait_for_selector("#sheet-tiles li")
    page.keyboard.press("Space")
    page.wait_for_timeout(400)
    yield "contact sheet"
    page.keyboard.press("Escape")
    wait_ready(page)
    page.keyboard.press("c")
    page.wait_for_selector("body.correcting")
    page.wait_for_timeout(400)
    yield "correction"


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(service, browser, screen):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(locale="de-DE", bypass_csp=True, **SCREENS[screen])
    found = []
    for name in places(page := context.new_page(), service.url):
        for one in axe.run(page).response["violations"]:
            found.append((name, one["id"], [node["target"] for node in one["nodes"]][:5], one["help"]))
    context.close()
    assert found == []


@pytest.mark.parametrize("screen", SCREENS)
def test_german_is_whole_on_every_page(service, browser, screen):
    context = browser.new_context(locale="de-DE", **SCREENS[screen])
    for name in places(page := context.new_page(), service.url):
        assert page.locator("html").get_attribute("lang") == "de"
        assert page.evaluate(CUT) == [], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        text = page.inner_text("body")
        assert not re.search(r"\{\w+\}|\b(key|correct|reason|measure|group|side)\.\w", text), name
    for word in ("Yaw", "Accept", "Reject", "Undo", "Save"):
        assert word not in text
    context.close()


def test_the_language_is_chosen_in_the_help(service, browser):
    context = browser.new_context(viewport=LAPTOP, locale="en-US")
    page = context.new_page()
    page.goto(service.url)
    wait_ready(page)
    assert page.inner_text("button.accept span") == "Accept"
    page.keyboard.press("h")
    page.select_option("#language", "de")
    page.wait_for_selector("html[lang=de]")
    wait_ready(page)
    assert page.inner_text("button.accept span") == "Annehmen"
    page.keyboard.press("h")
    assert page.input_value("#language") == "de"
    page.select_option("#language", "")
    page.wait_for_selector("html[lang=en]")
    context.close()
