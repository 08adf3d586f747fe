"""Canaille (PyPI): opaque tokens, and introspection that is open to the audience of a token alone."""

import json
import pathlib
import subprocess
import urllib.request

from suite import free_port


def config(folder: pathlib.Path, python: str, port: int) -> pathlib.Path:
    made = subprocess.run(
        [str(pathlib.Path(python).parent / "canaille"), "jwk", "create", "rsa"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
    )
    jwk = json.loads(made.stdout.strip().splitlines()[-1])
    key = ", ".join(f'{name} = "{value}"' for name, value in jwk.items())
    file = folder / "canaille.toml"
    file.write_text(
        f"""\
SECRET_KEY = "only for this run"
SERVER_NAME = "127.0.0.1:{port}"
PREFERRED_URL_SCHEME = "http"
[CANAILLE]
DATABASE = "memory"
[CANAILLE_OIDC]
DYNAMIC_CLIENT_REGISTRATION_OPEN = true
ACTIVE_JWKS = [{{{key}}}]
"""
    )
    return file


def canaille(suite, python: str) -> None:
    from issuers import form

    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    file = config(suite.folder, python, port)
    run = [str(pathlib.Path(python).parent / "canaille"), "run", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    suite.start("canaille", ["env", f"CANAILLE_CONFIG={file}", *run], port)

    def register(name: str) -> dict:
        client = {
            "client_name": name, "redirect_uris": ["http://127.0.0.1:1/callback"], "grant_types": ["client_credentials"],
            "token_endpoint_auth_method": "client_secret_basic", "scope": "openid profile",
        }
        request = urllib.request.Request(f"{issuer}/oauth/register", data=json.dumps(client).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def token(client: dict) -> str:
        fields = {"grant_type": "client_credentials", "scope": "profile"}
        return form(f"{issuer}/oauth/token", fields, (client["client_id"], client["client_secret"]))["access_token"]

    ours, other = register("the proxy and its robot"), register("somebody else")
    secret = suite.folder / "canaille.secret"
    secret.write_text(ours["client_secret"])
    entry = f"""\
  - issuer: {issuer}
    audience: {ours["client_id"]}
    introspection: {{ client_id: {ours["client_id"]}, client_secret_file: {secret}, cache_seconds: 1 }}
"""
    front = suite.front("proxy-canaille", entry)
    good = token(ours)
    suite.secrets += [good, ours["client_secret"]]
    suite.case("canaille, opaque: 200", front.expect, good, 200, None)
    suite.case("canaille, opaque, never issued: 401", front.expect, good[:-1], 401, "is not active")
    suite.case("canaille, opaque, of another client: 401", front.expect, token(other), 401, "is not active")
    suite.case("canaille, a registration token: 401", front.expect, ours["registration_access_token"], 401, "RS512")
    basic = (ours["client_id"], ours["client_secret"])
    form(f"{issuer}/oauth/revoke", {"token": good}, basic)
    suite.case("canaille, opaque, revoked: 401 within a second", front.becomes, good, 401)
    elsewhere = suite.front("proxy-canaille-audience", entry.replace(f"audience: {ours['client_id']}", "audience: https://mcp.example/mcp"))
    suite.case(
        "canaille, opaque, for another audience: 401, and the line to change",
        elsewhere.expect, token(ours), 401, "write it into issuers[0].audience (line 6)",
    )
