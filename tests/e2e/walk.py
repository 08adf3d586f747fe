"""A person at a browser, as far as a login needs one: follows redirects, keeps cookies, and says yes in forms."""

import html
import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request

STEPS_MAX = 20


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args, **_kwargs):
        return None


def attribute(tag: str, name: str) -> str | None:
    found = re.search(rf'\b{name}\s*=\s*"([^"]*)"', tag, re.I)
    return html.unescape(found[1]) if found else None


def fill(page: str, url: str) -> tuple[str, bytes]:
    """The first form of a page, filled in as a person would who says yes."""
    found = re.search(r"(<form\b[^>]*>)([\s\S]*?)</form>", page, re.I)
    if not found:
        raise RuntimeError(f"no form at {url}: {page[:300]}")
    fields = []
    for tag in re.findall(r"<input\b[^>]*>", found[2], re.I):
        name, kind = attribute(tag, "name"), attribute(tag, "type") or "text"
        if name and kind in ("checkbox", "radio"):
            if re.search(r"\schecked\b", tag, re.I):
                fields.append((name, attribute(tag, "value") or "on"))
        elif name and kind != "submit":
            value = {"hidden": attribute(tag, "value") or "", "password": "secret"}.get(kind, "alice")
            fields.append((name, value))
    for tag in re.findall(r"<button\b[^>]*>", found[2], re.I):
        name, value = attribute(tag, "name"), attribute(tag, "value") or ""
        if name and re.search("approve|allow|yes|accept|grant", value, re.I):
            fields.append((name, value))
            break
    action = urllib.parse.urljoin(url, attribute(found[1], "action") or url)
    return action, urllib.parse.urlencode(fields).encode()


def walk(url: str, redirect: str) -> str:
    """From an authorization URL to the redirect URI, which is not asked."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(NoRedirect, urllib.request.HTTPCookieProcessor(jar))
    body = None
    for _ in range(STEPS_MAX):
        try:
            response = opener.open(url, data=body, timeout=10)
        except urllib.error.HTTPError as error:
            response = error
        body = None
        location = response.headers.get("location")
        if location:
            url = urllib.parse.urljoin(url, location)
            if url.startswith(redirect):
                return url
        elif response.status == 200:
            url, body = fill(response.read().decode(), url)
        else:
            raise RuntimeError(f"{response.status} at {url}: {response.read()[:300]!r}")
    raise RuntimeError(f"still not back, at {url}")
