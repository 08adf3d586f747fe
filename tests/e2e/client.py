"""The official Python SDK client, doing the whole flow by itself.

    client.py URL legacy|auto [http|sse]
"""

import asyncio
import contextlib
import json
import sys
import urllib.parse

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

from walk import walk

REDIRECT = "http://127.0.0.1:1/callback"


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
    memory, landed, requests, refused = Memory(), [], [], []

    async def redirect(authorization: str) -> None:
        requests.append(f"GET {authorization.split('?')[0]} in a browser")
        landed.append(await asyncio.to_thread(walk, authorization, REDIRECT))

    async def callback() -> AuthorizationCodeResult:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(landed[-1]).query)
        assert "code" in query, landed[-1]
        return AuthorizationCodeResult(
            code=query["code"][0], state=query.get("state", [None])[0], iss=query.get("iss", [None])[0]
        )

    async def note(response) -> None:
        asked = response.request
        requests.append(f"{asked.method} {str(asked.url).split('?')[0]} {response.status_code}")
        if response.status_code == 401:
            refused.append(str(asked.url))

    metadata = OAuthClientMetadata(
        client_name="e2e python",
        redirect_uris=[REDIRECT],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    auth = OAuthClientProvider(url, metadata, memory, redirect_handler=redirect, callback_handler=callback)

    def make(headers=None, timeout=20, auth=auth) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(headers=headers, auth=auth, timeout=timeout, event_hooks={"response": [note]})

    async with contextlib.AsyncExitStack() as held:
        if sys.argv[3:] == ["sse"]:
            transport = sse_client(url, auth=auth, timeout=20, httpx_client_factory=make)
        else:
            transport = streamable_http_client(url, http_client=await held.enter_async_context(make()))
        client = await held.enter_async_context(Client(transport, mode=mode))
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
    assert refused, "the first request was not refused"
    seen = {"tools": tools, "refused": len(refused), "version": version, "requests": requests}
    print(json.dumps({**seen, "scope": memory.tokens.scope, "token": memory.tokens.access_token}))


asyncio.run(asyncio.wait_for(main(), 60))
