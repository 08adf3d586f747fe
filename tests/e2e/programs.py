"""MCP servers of others that are programs, behind authorization: npm server-everything and server-filesystem, and FastMCP of
both generations of the Python SDK. The official clients list, call, see progress, cancel and are asked.

Called as suite.py is.
"""

import os
import pathlib
import sys

from suite import CLIENT_PYTHON, HERE, NODE_DIR, SERVER_PYTHON, Suite, client, free_port, run_suite, typescript

CLIENTS = {
    "TypeScript SDK 1": ["node", str(pathlib.Path(NODE_DIR) / "stdio.mjs"), "1"],
    "TypeScript SDK 2": ["node", str(pathlib.Path(NODE_DIR) / "stdio.mjs"), "2"],
    "TypeScript SDK 2, auto": ["node", str(pathlib.Path(NODE_DIR) / "stdio.mjs"), "auto"],
    "Python SDK, legacy": [CLIENT_PYTHON, str(HERE / "stdio.py"), "legacy"],
    "Python SDK, auto": [CLIENT_PYTHON, str(HERE / "stdio.py"), "auto"],
}


class Programs(Suite):
    """Every client at every program; nothing is left behind."""

    def run(self) -> None:
        port = free_port()
        issuer = f"http://127.0.0.1:{port}"
        self.start("oidc-provider", ["node", str(pathlib.Path(NODE_DIR) / "provider.mjs"), str(port)], port)
        folder = self.folder / "shared files"
        folder.mkdir()
        bin_ = pathlib.Path(NODE_DIR) / "node_modules" / ".bin"
        os.environ["E2E_SECRET"] = "no server may see this"
        login = self.proxy("proxy-login", f"{CLIENT_PYTHON} {HERE.parent.parent / 'resources' / 'echo_server.py'} --transport stdio", issuer, "/mcp")
        token = typescript("1", "http", login + "/mcp", "--stdio")["token"]
        for name, server, command in [
            ("server-everything", "everything", f"node {bin_ / 'mcp-server-everything'} stdio"),
            ("server-filesystem", "filesystem", f'node {bin_ / "mcp-server-filesystem"} "{folder}"'),
            ("FastMCP of mcp 1.30", "fast", f"{SERVER_PYTHON} {HERE / 'fast_server.py'}"),
            ("FastMCP of mcp 2.3", "fast", f"{CLIENT_PYTHON} {HERE / 'fast_server.py'}"),
        ]:
            origin = self.proxy(f"proxy-{name.replace(' ', '-')}", command, issuer, "/mcp", audience=login + "/mcp")
            for who, run in CLIENTS.items():
                for kind, path in [("http", "/mcp"), ("sse", "/sse")]:
                    self.case(f"{who}, {name}, {kind}", client, *run, kind, origin + path, token, server, str(folder))
            if server == "filesystem":
                for what in ["progress", "cancel", "elicitation"]:
                    self.skip(f"{name}, {what}", "none of its tools takes long, tells of progress or asks")
        for started in self.running:
            if started.name.startswith("proxy"):
                self.case(f"{started.name} stops with exit code 0", self.stops, started)


if __name__ == "__main__":
    sys.exit(run_suite(Programs, "programs"))
