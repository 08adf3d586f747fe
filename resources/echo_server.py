"""A small MCP server to put the proxy in front of.

    pip install -r resources/requirements.txt
    python resources/echo_server.py --transport streamable-http --port 8000

It offers tools, a resource and a prompt, over Streamable HTTP (/mcp), HTTP+SSE (/sse) or stdio. It asks nobody for a
token: that is the proxy's work, so let it listen on loopback only.
"""

import argparse
import asyncio

try:  # mcp 1.x
    from mcp.server.fastmcp import Context, FastMCP
except ImportError:  # mcp 2.x gave it another name
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver import MCPServer as FastMCP

OLD = hasattr(FastMCP, "settings") or "host" in FastMCP.__init__.__code__.co_varnames


def build(host: str, port: int) -> FastMCP:
    """The server; mcp 1.x takes its address here, 2.x when it runs."""
    server = FastMCP("echo", **({"host": host, "port": port} if OLD else {}))

    @server.tool()
    def echo(message: str) -> str:
        """Answers with the message."""
        return message

    @server.tool()
    def shout(message: str) -> str:
        """Answers with the message in capitals."""
        return message.upper()

    @server.tool()
    async def count(to: int, ctx: Context) -> str:
        """Counts, and tells of its progress."""
        for n in range(1, min(to, 20) + 1):
            await asyncio.sleep(0.1)
            await ctx.report_progress(n, to)
        return f"counted to {min(to, 20)}"

    @server.tool()
    def headers(ctx: Context) -> list[str]:
        """The names of the HTTP headers that came with the call: what the proxy let through."""
        request = getattr(ctx.request_context, "request", None)
        return sorted(request.headers.keys()) if request is not None else []

    @server.resource("echo://about")
    def about() -> str:
        """What this server is."""
        return "An MCP server that answers what it is told."

    @server.prompt()
    def greeting(name: str) -> str:
        """Greets somebody."""
        return f"Say hello to {name}."

    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--transport", choices=["streamable-http", "sse", "stdio"], default="streamable-http")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    server = build(args.host, args.port)
    if args.transport == "stdio" or OLD:
        server.run(transport=args.transport)
    else:
        server.run(transport=args.transport, host=args.host, port=args.port)


if __name__ == "__main__":
    main()
