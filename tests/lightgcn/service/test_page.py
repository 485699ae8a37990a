"""The page in a real browser: what a person sees and does."""

import asyncio
import json
import threading
import time

import pytest
import uvicorn

from tests.lightgcn.service.browser import Browser, chromium
from tests.lightgcn.service.conftest import MARKUP, service_of

pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def url(recommender):
    """A service in a thread of this process."""
    service = service_of(recommender)
    server = uvicorn.Server(uvicorn.Config(service.app(), port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def texts(browser, of):
    """The names in a list."""
    script = f"[...document.querySelectorAll('#{of} .name')].map((one) => one.textContent)"
    return browser.run(script)


def type_into(browser, field, text):
    browser.run(f"document.getElementById('{field}').focus()")
    browser.run(f"document.getElementById('{field}').value = ''")
    browser.tell("Input.insertText", text=text)


def test_search_neighbours_and_picks(browser, url, recommender):
    browser.open(url)
    assert "50 items" in browser.run("document.getElementById('about').textContent")
    type_into(browser, "search", "the ITEM-39")
    browser.until("document.querySelectorAll('#found .name').length === 1")
    assert texts(browser, "found") == ["The item-39"]
    browser.run("document.querySelector('#found button').click()")
    browser.until("document.querySelector('#near .name')")
    near = recommender.similar_items("item-39", 10).ids
    titles = recommender.titles.of(near).to_list()
    expected = [title or one for one, title in zip(near, titles, strict=True)]
    assert texts(browser, "near") == expected
    pick = "document.querySelector('#found [data-pick]')"
    browser.run(f"{pick}.click()")
    browser.until("document.querySelector('#from .why')")
    first = texts(browser, "from")
    ids = recommender.recommend_from(["item-39"], 10).ids
    names = browser.run("[...document.querySelectorAll('#from .name')].map((one) => one.title)")
    assert names == [f"id {one}" for one in ids]
    assert "by the model" in browser.run("document.getElementById('from-note').textContent")
    assert browser.run(f"{pick}.getAttribute('aria-pressed')") == "true"
    browser.run("document.querySelector('#from [data-pick]').click()")
    browser.until("document.querySelectorAll('#picked li').length === 2")
    browser.until(f"document.querySelector('#from .name').textContent !== {json.dumps(first[0])}")
    browser.run("document.querySelector('#picked button').click()")
    browser.until("document.querySelectorAll('#picked li').length === 1")
    assert browser.faults == []


def test_markup_is_text(browser, url):
    browser.open(url)
    type_into(browser, "search", "img src")
    browser.until("document.querySelectorAll('#found .name').length === 1")
    assert texts(browser, "found") == [f"The {MARKUP}"]
    browser.run("document.querySelector('#found [data-pick]').click()")
    browser.until("document.querySelector('#from .why')")
    browser.run("document.querySelector('#found button').click()")
    browser.until("document.querySelector('#near .name')")
    assert browser.run("document.images.length") == 0
    assert browser.faults == []


def test_a_users_history_stands_beside_their_recommendations(browser, url, recommender):
    browser.open(url)
    type_into(browser, "user", "user-3")
    browser.press("Enter", 13)
    best = recommender.recommend("user-3", 10).ids[0]
    browser.until(f"document.querySelector('#recommended .name')?.title === 'id {best}'")
    count = browser.run("document.getElementById('history-count').textContent")
    start, end = recommender.train.offsets[3:5].tolist()
    assert count == f"{end - start} items"
    type_into(browser, "user", "nobody")
    browser.press("Enter", 13)
    note = "document.getElementById('user-note').textContent"
    browser.until(f"{note}.includes('popular items are the answer')")


def test_the_map_is_walked_by_keys(browser, url):
    browser.open(url)
    browser.run("document.getElementById('map').focus()")
    named = "document.getElementById('map-item').textContent"
    first = browser.until(f"{named}.trim()")
    for key, code in (("ArrowRight", 39), ("ArrowLeft", 37), ("ArrowUp", 38), ("ArrowDown", 40)):
        browser.press(key, code)
    assert browser.run(named) != first
    browser.press("Enter", 13)
    browser.until("document.querySelector('#near .name')")
    coloured = (
        "[...document.getElementById('map').getContext('2d')"
        ".getImageData(0, 0, 800, 300).data].filter((one) => one).length > 100"
    )
    assert browser.run(coloured)


def test_an_error_is_told_in_words(browser, url):
    browser.open(url)
    type_into(browser, "search", "x" * 300)
    browser.until("!document.getElementById('error').hidden")
    said = browser.run("document.getElementById('error').textContent")
    assert "The service refuses: search: expected 0 to 200 characters, got 300" in said
    type_into(browser, "search", "")
    browser.run("document.getElementById('search').dispatchEvent(new Event('input'))")
    browser.until("document.getElementById('error').hidden")
    browser.faults.clear()  # the browser's own note of the refusal


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_window(browser, url, width, scheme):
    browser.open(url, width=width, scheme=scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
    grounds = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (grounds == "rgb(20, 23, 27)") == (scheme == "dark")
