"""Real issuers of tokens, and the proxy in front of a server that counts: which tokens get through, which do not, and
what the operator reads.

npm oidc-provider signs by six algorithms and has opaque tokens; Canaille (PyPI) has opaque tokens; Debian's glewlwyd
has OpenID discovery alone, below a path. Called as suite.py is, with Canaille's interpreter as one argument more;
glewlwyd takes part where it is installed.
"""

import base64
import contextlib
import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from suite import NODE_DIR, PROXY, START_SECONDS, Suite, free_port, run_suite, status

ASK = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
ALGORITHMS = ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"]


class McpServer(http.server.BaseHTTPRequestHandler):
    """Answers everything alike, and remembers what came."""

    calls: list[dict] = []

    def do_POST(self):  # noqa: N802 - the name that http.server calls
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        McpServer.calls.append({"headers": dict(self.headers), "body": body})
        answer = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def form(url: str, fields: dict, basic: tuple[str, str] | None = None, headers: dict | None = None) -> dict:
    request = urllib.request.Request(url, data=urllib.parse.urlencode(fields).encode(), headers=headers or {})
    if basic:
        pair = ":".join(urllib.parse.quote(part, safe="") for part in basic)
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read()
        return json.loads(text) if text else {}


def claims(token: str) -> dict:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def until(what: str, holds) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


class Issuers(Suite):
    """What tokens of real issuers are worth."""

    def end(self) -> None:
        for started in reversed(self.running):
            with contextlib.suppress(OSError):
                started.stop()

    def front(self, name: str, issuers: str, usable: int | None = None) -> "Front":
        """A proxy that has the keys of its issuers, of all or of so many. A request waits for keys too, but not for long: on a
        machine with much else to do an issuer may need longer, and what is asked here is what tokens are worth."""
        port = free_port()
        file = self.folder / f"{name}.yaml"
        file.write_text(
            f"""\
proxy_base_url: http://127.0.0.1:{port}
listen_port: {port}
base_url: http://127.0.0.1:{self.server_port}
issuers:
{issuers}
"""
        )
        checked = subprocess.run([PROXY, "--check", "--config", str(file)], capture_output=True, text=True, timeout=20)
        assert checked.returncode == 0, checked.stderr
        started = self.start(name, [PROXY, "--config", str(file), "--debug"], port)
        count = issuers.count("issuer: ") if usable is None else usable
        until(f"{name} has the keys of {count} issuers", lambda: started.text().count(" keys loaded ") == count)
        return Front(f"http://127.0.0.1:{port}", started)

    def run(self) -> None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), McpServer)
        self.secrets: list[str] = []
        self.server_port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            self.oidc_provider()
            if len(sys.argv) > 6:
                from canaille_issuer import canaille

                canaille(self, sys.argv[6])
            if shutil.which("glewlwyd"):
                from glewlwyd_issuer import glewlwyd

                glewlwyd(self)
            else:
                print("skip glewlwyd is not installed", flush=True)
            for started in self.running:
                if started.name.startswith("proxy"):
                    self.case(f"{started.name} kept its secrets and stops with exit code 0", self.kept, started, self.secrets)
        finally:
            server.shutdown()

    def oidc_provider(self) -> None:
        port = free_port()
        issuer = f"http://127.0.0.1:{port}"
        self.start("oidc-provider", ["node", str(pathlib.Path(NODE_DIR) / "issuer.mjs"), str(port)], port)
        audience = json.dumps([f"https://mcp.example/{kind}" for kind in [*ALGORITHMS, "opaque"]])

        def token(kind: str) -> str:
            fields = {"grant_type": "client_credentials", "resource": f"https://mcp.example/{kind}", "scope": "mcp:read"}
            return form(f"{issuer}/token", fields, ("robot", "the robot: has a secret"))["access_token"]

        tokens = {kind: token(kind) for kind in [*ALGORITHMS, "opaque"]}
        entry = f"  - issuer: {issuer}\n    audience: {audience}\n"
        fronts = {
            "default": (self.front("proxy-default", entry), ["RS256"]),
            "listed": (self.front("proxy-listed", entry + "    algorithms: [PS256, ES256, EdDSA]\n"), ["PS256", "ES256", "EdDSA"]),
            "auto": (self.front("proxy-auto", entry + "    algorithms: auto\n"), ALGORITHMS),
        }
        for name, (front, allowed) in fronts.items():
            for algorithm in ALGORITHMS:
                expected = 200 if algorithm in allowed else 401
                told = None if expected == 200 else f"signed with {algorithm}, which is not on the list"
                self.case(f"oidc-provider, {algorithm}, algorithms {name}: {expected}", front.expect, tokens[algorithm], expected, told)
            self.case(
                f"oidc-provider, an opaque token without introspection, algorithms {name}: 401",
                front.expect, tokens["opaque"], 401, "write introspection for it",
            )
        for algorithm in ALGORITHMS:
            self.case(f"oidc-provider, {algorithm}, one bit changed: 401", fronts["auto"][0].expect, flipped(tokens[algorithm]), 401, None)
            self.case(
                f"oidc-provider, {algorithm}, by the key of another algorithm: 401",
                fronts["auto"][0].expect, renamed(tokens[algorithm], next(a for a in ALGORITHMS if a != algorithm)), 401, None,
            )
        secrets = []
        for method, client, secret in [
            ("client_secret_basic", "proxy", "and so has the proxy"),
            ("client_secret_post", "proxy-post", "and so has the other"),
        ]:
            secrets.append(secret)
            file = self.folder / f"{client}.secret"
            file.write_text(secret + "\n")
            asking = f"    introspection: {{ client_id: {client}, client_secret_file: {file}, auth_method: {method}, cache_seconds: 1 }}\n"
            front = self.front(f"proxy-opaque-{client}", entry + asking)
            fresh = token("opaque")
            self.case(f"oidc-provider, opaque, {method}: 200", front.expect, fresh, 200, None)
            self.case(f"oidc-provider, opaque, never issued, {method}: 401", front.expect, "never-issued", 401, "is not active")
            self.case(f"oidc-provider, a JWT beside it, {method}: 200", front.expect, tokens["RS256"], 200, None)
            form(f"{issuer}/token/revocation", {"token": fresh}, ("robot", "the robot: has a secret"))
            self.case(f"oidc-provider, opaque, revoked, {method}: 401 within a second", front.becomes, fresh, 401)
            mistaken = self.folder / "wrong.secret"
            mistaken.write_text("not the secret\n")
            wrong = self.front(f"proxy-wrong-{client}", entry + asking.replace(str(file), str(mistaken)))
            self.case(f"oidc-provider, a wrong secret, {method}: 503", wrong.expect, tokens["opaque"], 503, "check client_id, client_secret")
        self.secrets += [*secrets, *tokens.values()]

    @staticmethod
    def kept(started, secrets: list[str]) -> dict:
        text = started.text()
        for secret in secrets:
            assert secret not in text, f"{secret[:4]}… is in the log"
        code = started.stop()
        assert code == 0, f"exit code {code}"
        return {}


class Front:
    """One proxy, and what it does with tokens."""

    def __init__(self, origin: str, started):
        self.origin, self.started = origin, started

    def expect(self, token: str, expected: int, told: str | None) -> dict:
        before = len(McpServer.calls)
        found, challenge = status(self.origin + "/mcp", "POST", token, ASK)
        assert found == expected, f"{found} {challenge}\n{self.started.text()[-1500:]}"
        arrived = McpServer.calls[before:]
        assert len(arrived) == (1 if expected == 200 else 0), f"{len(arrived)} calls arrived"
        assert all(token not in str(call) for call in arrived), "the token went on"
        assert ('error="invalid_token"' in challenge) == (expected == 401), challenge
        if told is not None:
            until(f"the log says: {told}", lambda: told in self.started.text())
        return {}

    def becomes(self, token: str, expected: int) -> dict:
        until(f"it becomes {expected}", lambda: status(self.origin + "/mcp", "POST", token, ASK)[0] == expected)
        return {}


def flipped(token: str) -> str:
    """The same with one bit of its signature changed; the last character has bits that count for nothing."""
    at = token.rindex(".") + 5
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


def renamed(token: str, kid: str) -> str:
    """The same with the name of another key in its header."""
    head, rest = token.split(".", 1)
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    header["kid"] = kid
    return base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode() + "." + rest


if __name__ == "__main__":
    sys.exit(run_suite(Issuers, "issuers"))
