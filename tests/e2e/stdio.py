"""The official Python SDK client at real MCP servers that are programs, with everything that such a server asks of its
client: progress, cancellation, sampling, elicitation and roots.

    stdio.py legacy|auto http|sse URL TOKEN everything|filesystem|fast [FOLDER]

It prints one JSON line of what it saw.
"""

import asyncio
import contextlib
import json
import sys
import time

import anyio
import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

MODE, TRANSPORT, URL, TOKEN, SERVER = sys.argv[1:6]
asked: list[str] = []


async def sampled(_context, _params) -> types.CreateMessageResult:
    asked.append("sampling/createMessage")
    return types.CreateMessageResult(
        role="assistant", model="none", content=types.TextContent(type="text", text="sampled here")
    )


async def elicited(_context, _params) -> types.ElicitResult:
    asked.append("elicitation/create")
    return types.ElicitResult(action="accept", content={"name": "Ada", "check": True})


async def roots(_context) -> types.ListRootsResult:
    asked.append("roots/list")
    return types.ListRootsResult(roots=[types.Root(uri="file:///tmp", name="a root")])


def text(result) -> str:
    return "\n".join(getattr(part, "text", "") for part in result.content)


async def progressing(client: Client, tool: str, arguments: dict) -> tuple[str, int]:
    seen = []

    async def note(progress, _total, _message) -> None:
        seen.append(progress)

    answer = text(await client.call_tool(tool, arguments, progress_callback=note))
    assert seen == sorted(seen) and 2 <= len(seen) <= 4, seen
    return answer, len(seen)


async def cancel(client: Client, tool: str, arguments: dict) -> None:
    """Calls, and thinks better of it at the first sign of progress."""
    with anyio.CancelScope() as scope:

        async def enough(_progress, _total, _message) -> None:
            scope.cancel()

        await client.call_tool(tool, arguments, progress_callback=enough)
    assert scope.cancelled_caught, "it ended by itself"


async def filesystem(client: Client) -> dict:
    folder = sys.argv[6]
    path = f"{folder}/note.txt"
    written = await client.call_tool("write_file", {"path": path, "content": "hé\n" * 50_000})
    assert "wrote" in text(written), text(written)[:200]
    read = await client.call_tool("read_text_file", {"path": path})
    assert text(read).split("\n").count("hé") == 50_000
    outside = await client.call_tool("read_text_file", {"path": "/etc/hostname"})
    assert outside.is_error, "the server keeps to its folder"
    return {}


async def fast(client: Client) -> dict:
    assert text(await client.call_tool("echo", {"message": "hé, world"})) == "hé, world"
    waited, progress = await progressing(client, "wait", {"seconds": 1, "steps": 4})
    assert waited == "waited 4 steps", waited

    async def cancellations() -> int:
        return int(text(await client.call_tool("cancellations", {})))

    before = await cancellations()
    await cancel(client, "wait", {"seconds": 60, "steps": 120})
    until = time.monotonic() + 15
    while await cancellations() != before + 1:
        assert time.monotonic() < until, "the server was not told of the cancellation"
        await anyio.sleep(0.05)
    assert text(await client.call_tool("ask", {})) == "hello Ada"
    assert asked == ["elicitation/create"], asked
    return {"progress": progress}


async def everything(client: Client) -> dict:
    assert "hé, world" in text(await client.call_tool("echo", {"message": "hé, world"}))
    done, progress = await progressing(client, "trigger-long-running-operation", {"duration": 1, "steps": 4})
    assert "completed" in done, done
    await cancel(client, "trigger-long-running-operation", {"duration": 60, "steps": 120})
    for tool, arguments, expected in [
        ("trigger-sampling-request", {"prompt": "x", "maxTokens": 5}, "sampled here"),
        ("trigger-elicitation-request", {}, "Ada"),
        ("get-roots-list", {}, "a root"),
    ]:
        answer = text(await client.call_tool(tool, arguments))
        assert expected in answer, answer
    # Clients of 2026-07-28 have no session, so the server may know the roots from this user's last call.
    roots_too = {"roots/list"} if client.protocol_version != "2026-07-28" else set()
    assert {"sampling/createMessage", "elicitation/create"} | roots_too <= set(asked), asked
    many = await asyncio.gather(*(client.call_tool("get-sum", {"a": n, "b": 1000}) for n in range(40)))
    for n, result in enumerate(many):
        assert f" {n + 1000}" in text(result), text(result)
    environment = text(await client.call_tool("get-env", {}))
    assert "PATH" in environment and "E2E_SECRET" not in environment, "the proxy's environment is not passed on"
    return {"progress": progress, "concurrent": len(many)}


async def main() -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with contextlib.AsyncExitStack() as held:
        if TRANSPORT == "sse":
            transport = sse_client(URL, headers=headers, timeout=20)
        else:
            http_client = httpx2.AsyncClient(headers=headers, timeout=20)
            transport = streamable_http_client(URL, http_client=await held.enter_async_context(http_client))
        client = Client(
            transport, mode=MODE, sampling_callback=sampled, elicitation_callback=elicited, list_roots_callback=roots
        )
        client = await held.enter_async_context(client)
        tools = [tool.name for tool in (await client.list_tools()).tools]
        seen = await {"filesystem": filesystem, "fast": fast, "everything": everything}[SERVER](client)
        version = client.protocol_version
    print(json.dumps({"tools": len(tools), **seen, "asked": asked, "version": version}))


asyncio.run(asyncio.wait_for(main(), 60))
