"""The official Python SDK client, doing the whole flow by itself over Streamable HTTP.

    client.py URL legacy|auto
"""

import asyncio
import html
import http.cookiejar
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

REDIRECT = "http://127.0.0.1:1/callback"
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
        if name and kind != "submit":
            value = {"hidden": attribute(tag, "value") or "", "password": "secret"}.get(kind, "alice")
            fields.append((name, value))
    for tag in re.findall(r"<button\b[^>]*>", found[2], re.I):
        name, value = attribute(tag, "name"), attribute(tag, "value") or ""
        if name and re.search("approve|allow|yes|accept", value, re.I):
            fields.append((name, value))
            break
    action = urllib.parse.urljoin(url, attribute(found[1], "action") or url)
    return action, urllib.parse.urlencode(fields).encode()


def walk(url: str) -> str:
    """From an authorization URL to the redirect URI."""
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
            if url.startswith(REDIRECT):
                return url
        elif response.status == 200:
            url, body = fill(response.read().decode(), url)
        else:
            raise RuntimeError(f"{response.status} at {url}: {response.read()[:300]!r}")
    raise RuntimeError(f"still not back, at {url}")


class Memory(TokenStorage):
    def __init__(self):
        self.tokens = self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


async def main() -> None:
    url, mode = sys.argv[1:3]
    memory, landed, refused = Memory(), [], []

    async def redirect(authorization: str) -> None:
        landed.append(await asyncio.to_thread(walk, authorization))

    async def callback() -> AuthorizationCodeResult:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(landed[-1]).query)
        assert "code" in query, landed[-1]
        return AuthorizationCodeResult(
            code=query["code"][0], state=query.get("state", [None])[0], iss=query.get("iss", [None])[0]
        )

    async def note(response) -> None:
        if response.status_code == 401:
            refused.append(str(response.request.url))

    metadata = OAuthClientMetadata(
        client_name="e2e python",
        redirect_uris=[REDIRECT],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    auth = OAuthClientProvider(url, metadata, memory, redirect_handler=redirect, callback_handler=callback)
    async with httpx2.AsyncClient(auth=auth, timeout=20, event_hooks={"response": [note]}) as http_client:
        transport = streamable_http_client(url, http_client=http_client)
        async with Client(transport, mode=mode) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            assert "echo" in tools, tools
            said = await client.call_tool("echo", {"message": "hé, world"})
            assert said.content[0].text == "hé, world", said
            counted = await client.call_tool("count", {"to": 3})
            assert "counted to 3" in counted.content[0].text, counted
            read = await client.read_resource("echo://about")
            assert "MCP server" in read.contents[0].text, read
            version = getattr(client, "protocol_version", None)
    assert landed, "nobody had to log in"
    print(json.dumps({"tools": tools, "refused": len(refused), "version": version, "scope": memory.tokens.scope}))


asyncio.run(asyncio.wait_for(main(), 60))
