"""An MCP server on the official Python SDK, as a program over stdio: tools that tell of progress, can be cancelled, and ask
the client. Both generations of the SDK run it; the newer one asks as the client's protocol revision has it.
"""

import asyncio
from typing import Annotated

from pydantic import BaseModel

try:  # mcp 1.x
    from mcp.server.fastmcp import Context, FastMCP

    NEW = False
except ImportError:  # mcp 2.x gave it another name
    from mcp.server.mcpserver import Context, Elicit, Resolve
    from mcp.server.mcpserver import MCPServer as FastMCP

    NEW = True

server = FastMCP("fast")
cancelled = 0


class Person(BaseModel):
    name: str


@server.tool()
def echo(message: str) -> str:
    """Answers with the message."""
    return message


@server.tool()
async def wait(seconds: float, steps: int, ctx: Context) -> str:
    """Takes its time, and tells of its progress."""
    global cancelled
    try:
        for step in range(1, steps + 1):
            await asyncio.sleep(seconds / steps)
            await ctx.report_progress(step, steps)
    except asyncio.CancelledError:
        cancelled += 1
        raise
    return f"waited {steps} steps"


@server.tool()
def cancellations() -> str:
    """How often it was told not to wait any longer."""
    return str(cancelled)


if NEW:

    def who() -> Elicit[Person]:
        return Elicit("Who are you?", Person)

    @server.tool()
    def ask(person: Annotated[Person, Resolve(who)]) -> str:
        """Asks who is there."""
        return f"hello {person.name}"

else:

    @server.tool()
    async def ask(ctx: Context) -> str:
        """Asks who is there."""
        answer = await ctx.elicit("Who are you?", Person)
        return f"hello {answer.data.name}"


server.run("stdio")
