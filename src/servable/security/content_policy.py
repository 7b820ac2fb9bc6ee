"""Content-Security-Policy of pages: what a browser may do with them, which is to show what they hold. Pure.

A page that runs nothing needs permission for its styles alone, and gives it by their digests. Attributes of
style have no digest that would allow them and nothing else, so they become rules of one style element.
"""

import hashlib
import re
from base64 import b64encode
from html import escape, unescape

#: What every page is denied besides loading anything: another base of its addresses, and sending a form.
_DENIED = ("base-uri 'none'", "form-action 'none'")
#: Directives that count in a header only, so that a page as a file cannot state them.
_OF_HEADERS = ("frame-ancestors 'none'",)
#: The policy of an answer that is no page.
DATA_POLICY = "; ".join(("default-src 'none'", *_OF_HEADERS))
#: Different style elements that are allowed in one page; our own have up to three.
_MOST_STYLES = 32

_ELEMENT = re.compile(r"<style\b[^>]*>(.*?)</style>", re.DOTALL | re.IGNORECASE)
#: A tag that opens an element. Text holds no < of its own in a page whose values are escaped.
_TAG = re.compile(r"<[A-Za-z][^<>]*>")
_ATTRIBUTE = re.compile(r'\sstyle="([^"]*)"')
_CLASS = re.compile(r'(\sclass=")')
_NAME = re.compile(r"^<[A-Za-z][^\s/>]*")
_CHARSET = '<meta charset="utf-8">'
_HEAD_ENDS = "</head>"
#: What a rule is made of; anything else could end it and begin another.
_DECLARATIONS = re.compile(r"[^{}<>@\\]*")


def digest(text: str) -> str:
    """What allows a script or a style element of exactly this content."""
    # A browser sees line ends as the parser of HTML gives them.
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8")
    return f"'sha256-{b64encode(hashlib.sha256(plain).digest()).decode('ascii')}'"


def still_policy(page: str, *, sandbox: bool = False) -> str:
    """The policy for the header of a page that runs nothing: its own styles and pictures, nothing else.

    Args:
        page: in HTML.
        sandbox: whether it also gets an origin of its own, as what was written elsewhere should.
    """
    return "; ".join((_policy(page), *_OF_HEADERS, *(("sandbox",) if sandbox else ())))


def sealed(page: str) -> str:
    """A page that looks the same under a policy without ``unsafe-inline``, and states that policy itself.

    Every style attribute becomes a class with a rule that outranks the page's others, as the attribute did. A
    page without a head is left as it is.

    Args:
        page: in HTML, its values escaped.
    """
    if _HEAD_ENDS not in page:
        return page
    rules: dict[str, str] = {}

    def moved(found: re.Match[str]) -> str:
        tag = found.group()
        attribute = _ATTRIBUTE.search(tag)
        if attribute is None:
            return tag
        bare = tag[: attribute.start()] + tag[attribute.end() :]
        declared = unescape(attribute.group(1)).strip()
        if not declared or _DECLARATIONS.fullmatch(declared) is None:
            return bare
        name = rules.setdefault(declared, f"as-{len(rules)}")
        if _CLASS.search(bare) is not None:
            return _CLASS.sub(rf"\g<1>{name} ", bare, count=1)
        return _NAME.sub(lambda begin: f'{begin.group()} class="{name}"', bare, count=1)

    page = _TAG.sub(moved, page)
    if rules:
        # An id that no element has makes the rule outrank those of classes.
        written = "\n".join(f".{name}:not(#as) {{ {declared} }}" for declared, name in rules.items())
        page = page.replace(_HEAD_ENDS, f"<style>\n{written}\n</style>\n{_HEAD_ENDS}", 1)
    if "Content-Security-Policy" in page:
        return page
    # Behind the encoding, which must be among the first bytes, and before all that it is about.
    stated = f'<meta http-equiv="Content-Security-Policy" content="{escape(_policy(page), quote=False)}">'
    place = _CHARSET if _CHARSET in page else "<head>"
    return page.replace(place, f"{place}\n{stated}", 1)


def _policy(page: str) -> str:
    styles = list(dict.fromkeys(digest(text) for text in _ELEMENT.findall(page)))[:_MOST_STYLES]
    # Without any, the default denies all.
    allowed = (f"style-src {' '.join(styles)}",) if styles else ()
    return "; ".join(("default-src 'none'", *allowed, "img-src data:", *_DENIED))
