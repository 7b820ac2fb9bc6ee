"""What pages state about themselves."""

import hashlib
import re
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from servable.security.content_policy import digest, sealed, still_policy

PAGE = (
    '<!doctype html><html><head><meta charset="utf-8"><style>.a { color: red }</style></head>'
    '<body><div class="a b" style="width:12%">x</div><i style="left:1%;font:&quot;x&quot;"></i>'
    '<u style="width:12%"/></body></html>'
)


def test_attributes_of_style_become_rules_that_outrank_the_others() -> None:
    page = sealed(PAGE)
    assert "style=" not in page.replace("style-src", "")
    assert ".as-0:not(#as) { width:12% }" in page
    assert '.as-1:not(#as) { left:1%;font:"x" }' in page
    assert '<div class="as-0 a b">' in page
    assert '<i class="as-1">' in page
    assert '<u class="as-0"/>' in page


def test_a_page_states_the_digest_of_each_style_and_nothing_unsafe() -> None:
    page = sealed(PAGE)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert len(styles) == 2
    policy = still_policy(page)
    for text in styles:
        expected = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{expected}'" in policy
        assert digest(text) == f"'sha256-{expected}'"
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert policy.endswith("base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    assert "unsafe" not in policy
    stated = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert stated is not None
    # A page cannot say in itself who may frame it.
    assert policy == f"{stated.group(1)}; frame-ancestors 'none'"
    assert page.index("charset") < page.index("http-equiv") < page.index("<style")
    assert still_policy(page, sandbox=True).endswith("; sandbox")


def test_a_sealed_page_stays_as_it_is() -> None:
    assert sealed(sealed(PAGE)) == sealed(PAGE)
    assert sealed("no page, <b style='x'>") == "no page, <b style='x'>"


def test_a_style_that_could_end_its_rule_is_left_out() -> None:
    page = sealed(PAGE.replace("width:12%", "width:1%} body{display:none"))
    assert "display:none" not in page
    page = sealed(PAGE.replace("width:12%", "x&lt;/style&gt;&lt;script&gt;"))
    assert "<script" not in page


@given(st.text(st.characters(exclude_characters='<>&"'), max_size=40))
def test_text_that_looks_like_a_style_is_no_attribute(text: str) -> None:
    given = f" style=&quot;{text}&quot;"
    assert given in sealed(PAGE.replace(">x<", f">{given}<"))


def test_a_page_without_styles_may_show_none() -> None:
    assert "style-src" not in still_policy("<p>text")
    many = "".join(f"<style>a{{top:{n}px}}</style>" for n in range(100))
    assert still_policy(many).count("sha256") == 32


def test_line_ends_are_those_that_a_browser_sees() -> None:
    assert digest("a\r\nb\rc") == digest("a\nb\nc")
