"""The page as it is sent: small, with a policy that fits it, and where WebSocket is served."""

import base64
import hashlib
import re

import pytest

from monstermq_edge.operation.page import Page

LINES_MAX = 150


def directives(page: Page) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in policy(page).split(";"))
    return {name: value for name, _, value in parts}


def policy(page: Page) -> str:
    return page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("element", "directive"), [("script", "script-src"), ("style", "style-src")]
)
def test_the_policy_lets_the_pages_own_text_run_and_no_other(element: str, directive: str) -> None:
    page = Page(ws=9000, path="/mqtt")
    (content,) = re.findall(f"<{element}>(.*?)</{element}>", page.body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert directives(page)[directive] == f"'sha256-{digest}'"


def test_the_policy_forbids_all_else() -> None:
    found = directives(Page(ws=9000, path="/mqtt"))
    assert "unsafe" not in " ".join(found.values())
    for name in ("default-src", "base-uri", "form-action", "frame-ancestors"):
        assert found[name] == "'none'"


def test_it_is_small_takes_nothing_from_elsewhere_and_makes_no_html_of_text() -> None:
    text = Page(ws=9000, path="/mqtt").body.decode()
    assert len(text.splitlines()) <= LINES_MAX
    assert "src=" not in text
    assert set(re.findall(r'href="([^"]*)"', text)) == {"/health", "/ready", "/metrics"}
    assert re.search(r"\son\w+=|\sstyle=", text) is None  # the policy would refuse them
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert unsafe not in text


@pytest.mark.parametrize(
    ("page", "url", "connect"),
    [
        (Page(ws=9000, path="/mqtt"), "ws://*:9000/mqtt", "ws:"),
        (Page(ws=9000, wss=9001, path="/mqtt"), "ws://*:9000/mqtt", "ws:"),
        (Page(wss=9001, path="/x"), "wss://*:9001/x", "wss:"),
        (Page(), "", "'none'"),
        (Page(ws=1, path='/"><script>'), "ws://*:1/&quot;&gt;&lt;script&gt;", "ws:"),
    ],
)
def test_it_knows_where_websocket_is_served(page: Page, url: str, connect: str) -> None:
    assert re.findall('data-websocket="(.*?)"', page.body.decode()) == [url]
    assert directives(page)["connect-src"] == connect
