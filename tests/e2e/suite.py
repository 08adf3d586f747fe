"""Starts real servers, a real identity provider and the proxy, and lets real clients log in and call.

Everything listens on loopback, on free ports; every wait has an end; only what was started here is ended.
"""

import base64
import contextlib
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROXY, NODE_DIR, CLIENT_PYTHON, SERVER_PYTHON, FAST_PYTHON = sys.argv[1:6]
START_SECONDS = 60
CASE_SECONDS = 90


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections: one of these would take it
    before the program that it is for has started."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as found:
            found.bind(("127.0.0.1", random.randrange(10_000, 32_768)))
            return found.getsockname()[1]


class Started:
    """A program of ours: its output goes to a file, and it ends with the block."""

    def __init__(self, folder: pathlib.Path, name: str, command: list[str], ready: str | int):
        self.log = folder / f"{name}.log"
        self.name = name
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=NODE_DIR
            )
        until = time.monotonic() + START_SECONDS
        while not self.is_ready(ready):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{name} did not start:\n{self.text()[-2000:]}")
            time.sleep(0.05)

    def is_ready(self, ready: str | int) -> bool:
        if isinstance(ready, str):
            return re.search(ready, self.text()) is not None
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ready), 0.2):
            return True
        return False

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


def client(*command: str) -> dict:
    done = subprocess.run(
        command, cwd=NODE_DIR, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CASE_SECONDS
    )
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stderr + done.stdout)[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def typescript(generation: str, transport: str, url: str, *more: str) -> dict:
    return client("node", str(pathlib.Path(NODE_DIR) / "client.mjs"), generation, transport, url, *more)


def family(pid: int) -> list[int]:
    """Every process that descends from this one."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for known in found:
        found.extend(child for child, parent in parents.items() if parent == known)
    return found[1:]


def until(what: str, holds, seconds: int = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)


def python(url: str, mode: str, transport: str = "http") -> dict:
    return client(CLIENT_PYTHON, str(HERE / "client.py"), url, mode, transport)


def fastmcp(url: str) -> dict:
    return client(FAST_PYTHON, str(HERE / "fast.py"), url)


def mcp_remote(url: str) -> dict:
    return client("node", str(pathlib.Path(NODE_DIR) / "remote.mjs"), url)


def status(url: str, method: str = "GET", token: str | None = None, body: bytes | None = None) -> tuple[int, str]:
    """The status and the challenge of one request."""
    request = urllib.request.Request(url, data=body, method=method)
    request.add_header("Accept", "application/json, text/event-stream")
    if body is not None:
        request.add_header("Content-Type", "application/json")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("WWW-Authenticate", "")


class Suite:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.running: list[Started] = []
        self.failed = 0
        self.passed = 0
        self.skipped = 0

    def skip(self, name: str, why: str) -> None:
        self.skipped += 1
        print(f"skip {name}: {why}", flush=True)

    def start(self, name: str, command: list[str], ready: str | int) -> Started:
        started = Started(self.folder, name, command, ready)
        self.running.append(started)
        return started

    def end(self) -> None:
        """Ends what was started, the last first."""
        for started in reversed(self.running):
            started.stop()

    def whole(self) -> bool:
        """Whether all was run that has to be; none is no success."""
        return self.passed > 0

    def case(self, name: str, body, *args) -> dict | None:
        began = time.monotonic()
        try:
            seen = body(*args)
        except Exception as error:  # noqa: BLE001 - a failed case must not end the others
            self.failed += 1
            print(f"FAIL {name}: {error}", flush=True)
            for started in self.running:
                print(f"--- {started.name}\n{started.text()[-1500:]}", flush=True)
            return None
        self.passed += 1
        told = {key: value for key, value in (seen or {}).items() if key in ("version", "progress", "scope", "asked", "children")}
        print(f"ok   {name} ({time.monotonic() - began:.1f} s) {told or ''}", flush=True)
        return seen

    def proxy(
        self, name: str, server: int | str, issuer: str, path: str, login: str = "", *flags: str, audience: str = ""
    ) -> str:
        """In front of a server on a port, or of one that is started with a command."""
        port = free_port()
        origin = f"http://127.0.0.1:{port}"
        file = self.folder / f"{name}.yaml"
        if isinstance(server, int):
            behind = f"base_url: http://127.0.0.1:{server}\ntimeout_seconds: 20"
        else:
            behind = f"transport_mode: stdio\nstdio:\n  user_command: '{server}'\n  session_idle_seconds: 3600"
        file.write_text(
            f"""\
proxy_base_url: {origin}
listen_port: {port}
{behind}
paths: {{ sse: /sse, messages: /messages/, streamable_http: /mcp }}
protected_resource_metadata:
  resource_identifier: {origin}{path}
  audience: ["{origin}/mcp", "{origin}/sse", "{audience or origin}"]
  {f'authorization_servers: ["{issuer}"]' if issuer else ""}
  scopes_supported:
    - "tools/call":
        - echo: mcp:echo
        - shout: mcp:admin
    - resources: mcp:read
log_level: debug
"""
            + login.replace("RESOURCE", origin + path)
        )
        command = [PROXY, "--config", str(file), *flags]
        checked = subprocess.run([*command, "--check"], capture_output=True, text=True, timeout=20)
        assert checked.returncode == 0, checked.stderr
        self.start(name, command, port)
        return origin

    def refusals(self, origin: str, path: str, token: str) -> dict:
        """What a stranger meets, on each method and path, and what a token for another place meets."""
        ask = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
        for method, target, body in [
            ("POST", "/mcp", ask), ("POST", "/messages/", ask), ("GET", path, None), ("GET", "/sse", None),
            ("DELETE", "/mcp", None),
        ]:
            found, challenge = status(origin + target, method, None, body)
            assert found == 401 and "resource_metadata=" in challenge and "error=" not in challenge, (method, target, found, challenge)
            found, challenge = status(origin + target, method, "junk", body)
            assert found == 401 and 'error="invalid_token"' in challenge, (method, target, found, challenge)
        head, claims, signature = token.split(".")
        padded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        padded["aud"] = "https://elsewhere.example"
        forged = base64.urlsafe_b64encode(json.dumps(padded).encode()).rstrip(b"=").decode()
        found, challenge = status(origin + "/mcp", "POST", f"{head}.{forged}.{signature}", ask)
        assert found == 401 and 'error="invalid_token"' in challenge, (found, challenge)
        return {}

    def foreign(self, ours: str, theirs: str) -> dict:
        """A good token of the same provider, for another resource: the audience alone decides."""
        ask = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
        token = typescript("1", "http", theirs + "/mcp")["token"]
        found, challenge = status(ours + "/mcp", "POST", token, ask)
        assert found == 401 and 'error="invalid_token"' in challenge, (found, challenge)
        return {}

    def logins(self, what: str, origin: str, path: str) -> None:
        """Every client logs in and calls, the way that it finds by itself."""
        kind = "sse" if path == "/sse" else "http"
        for generation in ("old", "1", "2"):
            seen = self.case(f"(d) {what}, TypeScript SDK {generation}, {kind}", typescript, generation, kind, origin + path)
            if seen and generation == "old":
                asked = [line.split()[1] for line in seen["requests"]]
                self.case(f"(d) {what}, TypeScript SDK old came to us, {kind}", self.came_here, origin, asked)
        if kind == "http":
            for mode in ("auto", "legacy"):
                self.case(f"(d) {what}, Python SDK, {mode}", python, origin + path, mode)
            self.case(f"(d) {what}, fastmcp", fastmcp, origin + path)
            self.case(f"(d) {what}, mcp-remote", mcp_remote, origin + path)

    @staticmethod
    def came_here(origin: str, asked: list[str]) -> dict:
        for path in ("/.well-known/oauth-authorization-server", "/register", "/authorize", "/token"):
            assert origin + path in asked, (path, asked)
        return {}

    def relayed(self, issuer: str, servers: dict[str, int]) -> None:
        """The login relay as the original's files describe it, and in front of Asgardeo's API; logins.py has the others."""
        adds = """
    /authorize: { addQueryParams: [{ name: resource, value: "RESOURCE" }, { name: scope, value: "mcp:read mcp:echo" }] }
    /token: { addBodyParams: [{ name: resource, value: "RESOURCE" }] }
"""
        described = f"""\
default:
  base_url: "{issuer}"
  jwks_url: "{issuer}/jwks"
  path:
    /.well-known/oauth-authorization-server:
      response:
        issuer: "{issuer}"
        jwks_uri: "{issuer}/jwks"
        response_types_supported: ["code"]
        grant_types_supported: ["authorization_code", "refresh_token"]
        code_challenge_methods_supported: ["S256"]{adds}path_mapping: {{ /authorize: /auth, /token: /token, /register: /reg }}
"""
        port = free_port()
        self.start("asgardeo", ["node", str(pathlib.Path(NODE_DIR) / "asgardeo.mjs"), str(port)], port)
        organisation = f"""\
asgardeo:
  base_url: "http://127.0.0.1:{port}/t/org"
  client_id: operator
  client_secret: operator-secret-of-the-e2e-run
default:
  path:
    /authorize: {{ addQueryParams: [{{ name: scope, value: "mcp:read mcp:echo" }}] }}
"""
        for path, server in servers.items():
            for what, authority, login, *flags in [
                ("the original's file", issuer, described),
                ("--asgardeo", "", organisation, "--asgardeo"),
            ]:
                name = f"proxy-{what.replace(' ', '-')}-{path[1:]}"
                self.logins(what, self.proxy(name, server, authority, path, login, *flags), path)

    def run(self) -> None:
        issuer_port = free_port()
        issuer = f"http://127.0.0.1:{issuer_port}"
        self.start("oidc-provider", ["node", str(pathlib.Path(NODE_DIR) / "provider.mjs"), str(issuer_port)], issuer_port)
        origins, servers = {}, {}
        for generation, interpreter in [("1.30", SERVER_PYTHON), ("2.3", CLIENT_PYTHON)]:
            for transport, path in [("streamable-http", "/mcp"), ("sse", "/sse")]:
                port = free_port()
                server = f"server-{generation}-{transport}"
                command = [interpreter, str(ROOT / "resources" / "echo_server.py"), "--transport", transport, "--port", str(port)]
                self.start(server, command, port)
                servers.setdefault(path, port)
                origin = self.proxy(f"proxy-{generation}-{transport}", port, issuer, path)
                origins[generation, transport] = origin
                kind = "sse" if transport == "sse" else "http"
                for client_generation in ("1", "2"):
                    name = f"(a) TypeScript SDK {client_generation}, oidc-provider, mcp {generation}, {transport}"
                    seen = self.case(name, typescript, client_generation, kind, origin + path)
                if seen:
                    self.case(f"(a) strangers meet 401, mcp {generation}, {transport}", self.refusals, origin, path, seen["token"])
                if transport != "sse":
                    for mode in ("auto", "legacy"):
                        self.case(f"(c) Python SDK, oidc-provider, mcp {generation}, {mode}", python, origin + path, mode)
        self.case(
            "(a) a token for another resource of the same provider meets 401",
            self.foreign, origins["1.30", "streamable-http"], origins["2.3", "streamable-http"],
        )
        self.programs(issuer)
        self.relayed(issuer, servers)
        local = self.start("local", [PROXY, "--local", "--listen", "127.0.0.1:0"], r"MCP endpoint\s+http://\S+/mcp")
        origin = re.search(r"MCP endpoint\s+(http://\S+)/mcp", local.text())[1]
        for client_generation in ("1", "2"):
            for kind, path in [("http", "/mcp"), ("sse", "/sse")]:
                self.case(f"(b) TypeScript SDK {client_generation}, --local, {kind}", typescript, client_generation, kind, origin + path)
        for mode in ("auto", "legacy"):
            self.case(f"(c) Python SDK, --local, {mode}", python, origin + "/mcp", mode)
        for started in self.running:
            if started.name.startswith(("proxy", "local")):
                self.case(f"{started.name} stops with exit code 0", self.stops, started)

    def programs(self, issuer: str) -> None:
        """(d) An MCP server that is a program: the same clients, and nothing left behind; programs.py has the others."""
        seen = None
        for generation, interpreter in [("1.30", SERVER_PYTHON), ("2.3", CLIENT_PYTHON)]:
            command = f"{interpreter} {ROOT / 'resources' / 'echo_server.py'} --transport stdio"
            origin = self.proxy(f"proxy-stdio-{generation}", command, issuer, "/mcp")
            for client_generation in ("1", "2"):
                for kind, path in [("http", "/mcp"), ("sse", "/sse")]:
                    name = f"(d) TypeScript SDK {client_generation}, a program with mcp {generation}, {kind}"
                    done = self.case(name, typescript, client_generation, kind, origin + path, "--stdio")
                    if kind == "http" and done:
                        seen = done
            if seen:
                self.case(f"(d) strangers meet 401, a program with mcp {generation}", self.refusals, origin, "/mcp", seen["token"])
            for mode in ("auto", "legacy"):
                self.case(f"(d) Python SDK, a program with mcp {generation}, {mode}", python, origin + "/mcp", mode)

    @staticmethod
    def stops(started: Started) -> dict:
        # --local prints tokens on purpose.
        for secret in ("eyJ", "operator-secret", "code=", "refresh_token=", "client_secret="):
            assert started.name == "local" or secret not in started.text(), f"{secret} is in the log"
        pids = family(started.process.pid)
        code = started.stop()
        assert code == 0, f"exit code {code}"
        until("its children have ended", lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids))
        return {"children": len(pids)}


def run_suite(kind: type[Suite], name: str) -> int:
    """Runs all of it in a directory of its own, whatever happens ends what was started, and gives the exit code."""
    os.environ.pop("SSL_CERT_FILE", None)
    with tempfile.TemporaryDirectory(prefix=f"e2e-{name.replace(' ', '-')}-") as folder:
        suite = kind(pathlib.Path(folder))
        try:
            suite.run()
        finally:
            suite.end()
    whole = suite.whole()
    skipped = f", {suite.skipped} skipped" if suite.skipped else ""
    print(f"{name}: {suite.passed} passed, {suite.failed} failed{skipped}", flush=True)
    return 1 if suite.failed or not whole else 0


if __name__ == "__main__":
    sys.exit(run_suite(Suite, "end to end"))
