"""fastmcp's client, doing the whole flow by itself: only the browser that it would open is ours.

    fast.py URL
"""

import asyncio
import json
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser

from fastmcp import Client
from fastmcp.client.auth import OAuth

from walk import walk


def browse(authorization: str) -> bool:
    redirect = urllib.parse.parse_qs(urllib.parse.urlsplit(authorization).query)["redirect_uri"][0]

    def follow() -> None:
        back = walk(authorization, redirect)
        # The client opens the browser first and its callback server then; a person would be slower than that.
        until = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(back, timeout=10) as answer:
                    answer.read()
                return
            except urllib.error.URLError as error:
                if time.monotonic() > until or not isinstance(error.reason, ConnectionRefusedError):
                    raise
                time.sleep(0.1)

    threading.Thread(target=follow, daemon=True).start()
    return True


async def main() -> None:
    webbrowser.open = browse
    async with Client(sys.argv[1], auth=OAuth(callback_timeout=30)) as client:
        tools = [tool.name for tool in await client.list_tools()]
        assert "echo" in tools, tools
        said = await client.call_tool("echo", {"message": "hé, world"})
        assert said.content[0].text == "hé, world", said
    print(json.dumps({"tools": tools}))


asyncio.run(asyncio.wait_for(main(), 60))
