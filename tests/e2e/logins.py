"""The whole login at two identity providers of others, each unlike the other: every official client, the relay off, on and
advertised, Streamable HTTP and HTTP+SSE, and a server that is a program. Each login ends in tool calls.

npm oidc-provider names itself in its answers (RFC 9207), which clients take for a mix-up where the relay is advertised, so
there a silent one stands in its place and the refusal has cases of its own. django-allauth (PyPI) has OpenID discovery
alone, gives a client the scopes that it registered and no others, and no audience that nobody named.
Called as suite.py is, with django-allauth's interpreter as one argument more.
"""

import itertools
import pathlib
import re
import sys

from suite import CLIENT_PYTHON, HERE, NODE_DIR, ROOT, Suite, fastmcp, free_port, mcp_remote, python, run_suite, typescript, until

ALLAUTH_PYTHON = sys.argv[6]
PROVIDERS = ["oidc-provider", "django-allauth"]
TRANSPORTS = {"http": "/mcp", "sse": "/sse"}
CLIENTS = {
    "TypeScript SDK 1": lambda url, kind, *more: typescript("1", kind, url, *more),
    "TypeScript SDK 2": lambda url, kind, *more: typescript("2", kind, url, *more),
    "Python SDK": lambda url, kind, *_: python(url, "auto", kind),
}
# Where the relay serves a login.
OURS = ("/register", "/authorize", "/token")
# The SDK of before RFC 9728 names neither what it wants nor for whom; the operator adds it, and what it may ask for.
RELAYS = {
    "off": "",
    "on": """\
login_relay: "on"
default:
  path:
    /authorize: { addQueryParams: [{ name: resource, value: "RESOURCE" }, { name: scope, value: "mcp:read mcp:echo" }] }
    /token: { addBodyParams: [{ name: resource, value: "RESOURCE" }] }
    /register: { addBodyParams: [{ name: scope, value: "mcp:read mcp:echo" }] }
""",
    "advertised": "login_relay: advertised\n",
}


class Logins(Suite):
    """Counts which logins came through, and says which could not and why."""

    def __init__(self, folder: pathlib.Path):
        super().__init__(folder)
        self.through: set[tuple[str, str, str, str]] = set()
        self.origins: dict[tuple[str, str], str] = {}

    def run(self) -> None:
        node = ["node", str(pathlib.Path(NODE_DIR) / "provider.mjs")]
        issuers = {}
        for provider, command, *more in [
            ("oidc-provider", node), ("oidc-provider, silent", node, "silent"),
            ("django-allauth", [ALLAUTH_PYTHON, str(HERE / "allauth_provider.py")], str(self.folder)),
        ]:
            port = free_port()
            self.start(provider, [*command, str(port), *more], port)
            issuers[provider] = f"http://127.0.0.1:{port}"
        echo = f"{CLIENT_PYTHON} {ROOT / 'resources' / 'echo_server.py'} --transport "
        servers: dict[str, int | str] = {"program": echo + "stdio"}
        for kind, transport in [("http", "streamable-http"), ("sse", "sse")]:
            servers[kind] = free_port()
            self.start(f"server-{kind}", [*echo.split(), transport, "--port", str(servers[kind])], servers[kind])
        for provider, (relay, login), kind in itertools.product(PROVIDERS, RELAYS.items(), TRANSPORTS):
            issuer = issuers.get(f"{provider}, silent" if relay == "advertised" else provider) or issuers[provider]
            origin = self.proxy(f"proxy-{provider}-{relay}-{kind}", servers[kind], issuer, TRANSPORTS[kind], login)
            if kind == "http":
                self.origins[provider, relay] = origin
            for client, run in CLIENTS.items():
                name = f"{client}, {provider}, relay {relay}, {kind}"
                if self.case(name, self.login, run, origin, kind, relay == "advertised"):
                    self.through.add((provider, client, relay, kind))
            self.others(provider, relay, kind, origin)
        for provider in PROVIDERS:
            origin = self.proxy(f"proxy-{provider}-program", servers["program"], issuers[provider], "/mcp")
            for (client, run), kind in itertools.product(CLIENTS.items(), TRANSPORTS):
                self.case(f"{client}, {provider}, a program, {kind}", self.login, run, origin, kind, False, "--stdio")
            # The same provider's token for another resource, and one that was tampered with.
            ours, theirs = (self.origins[provider, relay] for relay in ("off", "on"))
            self.case(f"{provider}, a token for another resource: 401", self.foreign, ours, theirs)
            self.case(f"{provider}, strangers: 401", lambda origin=ours: self.refusals(origin, "/mcp", self.token(origin)))
        mixed_up = self.proxy("proxy-mix-up", servers["http"], issuers["oidc-provider"], "/mcp", RELAYS["advertised"])
        for client in ["TypeScript SDK 2", "Python SDK"]:
            name = f"{client}, oidc-provider, relay advertised: refused by the client, for the provider names itself"
            self.case(name, self.refuses, CLIENTS[client], mixed_up, self.running[-1])
        for started in self.running:
            if started.name.startswith("proxy"):
                self.case(f"{started.name} stops with exit code 0", self.stops, started)

    @staticmethod
    def token(origin: str) -> str:
        return typescript("1", "http", origin + "/mcp")["token"]

    @staticmethod
    def login(run, origin: str, kind: str, relayed: bool, *more: str) -> dict:
        """One login and its calls; through the relay from the first page to the last, or not at all."""
        seen = run(origin + TRANSPORTS[kind], kind, *more)
        asked = {line.split()[1] for line in seen["requests"]}
        ours = {path for path in OURS if origin + path in asked}
        elsewhere = {url for url in asked if not url.startswith(origin + "/")}
        assert ours == (set(OURS) if relayed else set()), (ours, asked)
        assert bool(elsewhere) != relayed, elsewhere
        return seen

    @staticmethod
    def refuses(run, origin: str, proxy) -> dict:
        """RFC 9207: the client ends the login, and the operator reads which line to change."""
        try:
            run(origin + "/mcp", "http")
        except AssertionError as error:
            assert re.search("iss(uer)? mismatch", str(error), re.I), error
        else:
            raise AssertionError("the login came through")
        until("the log says it", lambda: "write login_relay: on, so that they log in there directly" in proxy.text())
        return {}

    def others(self, provider: str, relay: str, kind: str, origin: str) -> None:
        """The clients beside the official ones, and the one that needs the relay."""
        url, where = origin + TRANSPORTS[kind], f"{provider}, relay {relay}, {kind}"
        if relay == "on":
            self.case(f"TypeScript SDK 1.10.2, {where}", self.login, lambda url, kind: typescript("old", kind, url), origin, kind, True)
        elif relay == "off":
            self.skip(f"TypeScript SDK 1.10.2, {where}", "it knows no RFC 9728 and asks the MCP server's own origin alone")
        if kind == "http":
            self.case(f"fastmcp, {where}", fastmcp, url)
            self.case(f"mcp-remote, {where}", mcp_remote, url)

    def whole(self) -> bool:
        """Whether every combination was run and came through; the table says so to the reader."""
        wanted = list(itertools.product(PROVIDERS, CLIENTS, RELAYS, TRANSPORTS))
        for provider, client in itertools.product(PROVIDERS, CLIENTS):
            cells = [f"{relay}/{kind} {'ok' if (provider, client, relay, kind) in self.through else '--'}"
                     for relay, kind in itertools.product(RELAYS, TRANSPORTS)]
            print(f"{provider:15}{client:18}{'  '.join(cells)}")
        print(f"logins: {len(self.through)} of {len(wanted)} combinations ended in a tool call")
        return self.through == set(wanted)


if __name__ == "__main__":
    sys.exit(run_suite(Logins, "logins"))
