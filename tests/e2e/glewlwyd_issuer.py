"""Debian's glewlwyd: OpenID discovery alone, issuers with a path, and here four of them side by side on one host, each
with its own key and algorithm. One proxy trusts them all, and each token is judged by the one that it names."""

import gzip
import http.cookiejar
import json
import pathlib
import sqlite3
import urllib.request

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from suite import free_port

SCHEMA = pathlib.Path("/usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz")
MODULES = pathlib.Path("/usr/lib/glewlwyd")
RESOURCE = "https://mcp.example/mcp"
ROBOT = ("robot", "robot-secret")
KEYS = {
    "rsa": ("rsa", "RS256", lambda: rsa.generate_private_key(65537, 2048)),
    "pss": ("rsa-pss", "PS256", lambda: rsa.generate_private_key(65537, 2048)),
    "curve": ("ecdsa", "ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
    "edwards": ("eddsa", "EdDSA", ed25519.Ed25519PrivateKey.generate),
}


def config(folder: pathlib.Path, port: int) -> pathlib.Path:
    database = folder / "glewlwyd.db"
    with sqlite3.connect(database) as opened:
        opened.executescript(gzip.decompress(SCHEMA.read_bytes()).decode())
    file = folder / "glewlwyd.conf"
    file.write_text(
        f"""\
port={port}
bind_address="127.0.0.1"
external_url="http://127.0.0.1:{port}"
login_url="login.html"
api_prefix="api"
log_mode="console"
log_level="WARNING"
cookie_secure=0
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="{MODULES}/user"
client_module_path="{MODULES}/client"
user_auth_scheme_module_path="{MODULES}/scheme"
plugin_module_path="{MODULES}/plugin"
hash_algorithm="SHA512"
database = {{ type = "sqlite3"; path = "{database}"; }};
"""
    )
    return file


def plugin(issuer: str, kind: str, key) -> dict:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "iss": issuer,
        "jwt-type": kind,
        "jwt-key-size": "256",
        "key": private.decode(),
        "cert": public.decode(),
        "access-token-duration": 600,
        "refresh-token-duration": 1200,
        "code-duration": 600,
        "refresh-token-rolling": False,
        "allow-non-oidc": True,
        "auth-type-client-enabled": True,
        "auth-type-code-enabled": True,
        "auth-type-token-enabled": False,
        "auth-type-id-token-enabled": True,
        "auth-type-password-enabled": False,
        "auth-type-refresh-enabled": True,
        "subject-type": "public",
        "resource-allowed": True,
        "resource-scope": {"mcp:read": [RESOURCE]},
        "resource-scope-and-client-property": False,
    }


def glewlwyd(suite) -> None:
    from issuers import flipped, form

    port = free_port()
    suite.start("glewlwyd", ["glewlwyd", f"--config-file={config(suite.folder, port)}"], port)
    base = f"http://127.0.0.1:{port}/api"
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def post(path: str, body: dict) -> None:
        request = urllib.request.Request(base + path, data=json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        browser.open(request, timeout=20).read()

    # The administrator that its schema brings.
    post("/auth/", {"username": "admin", "password": "password"})
    scope = {"name": "mcp:read", "display_name": "read", "description": "read"}
    post("/scope/", {**scope, "password_required": False, "scheme": {}})
    for name, (kind, _, make) in KEYS.items():
        parameters = plugin(f"{base}/{name}", kind, make())
        post("/mod/plugin/", {"module": "oidc", "name": name, "display_name": name, "order_rank": 0, "parameters": parameters})
    robot = {"client_id": ROBOT[0], "name": "robot", "password": ROBOT[1], "confidential": True, "enabled": True}
    post("/client/", {
        **robot, "authorization_type": ["client_credentials"], "scope": ["mcp:read"],
        "redirect_uri": ["http://127.0.0.1:1/callback"], "token_endpoint_auth_method": ["client_secret_basic"],
    })
    fields = {"grant_type": "client_credentials", "scope": "mcp:read", "resource": RESOURCE}
    tokens = {name: form(f"{base}/{name}/token", fields, ROBOT)["access_token"] for name in KEYS}
    suite.secrets += tokens.values()

    def entries(algorithms) -> str:
        return "".join(
            f"  - {{ issuer: '{base}/{name}', audience: '{RESOURCE}', algorithms: {algorithms(name)} }}\n" for name in KEYS
        )

    front = suite.front("proxy-glewlwyd", entries(lambda name: [KEYS[name][1]]))
    for name, token in tokens.items():
        suite.case(f"glewlwyd, {KEYS[name][1]}, one of four issuers: 200", front.expect, token, 200, None)
        suite.case(f"glewlwyd, {KEYS[name][1]}, one bit changed: 401", front.expect, flipped(token), 401, None)
    confused = suite.front("proxy-glewlwyd-default", entries(lambda _: ["RS256"]), usable=1)
    suite.case("glewlwyd, RS256, by default: 200", confused.expect, tokens["rsa"], 200, None)
    for name in ["pss", "curve", "edwards"]:
        told = f"signed with {KEYS[name][1]}, which is not on the list"
        suite.case(f"glewlwyd, {KEYS[name][1]}, by default: 401", confused.expect, tokens[name], 401, told)
    suite.case("glewlwyd, an issuer without a usable key says so", says, confused, "it is for ES256, which is not in algorithms")
    stranger = suite.front("proxy-glewlwyd-slash", f"  - {{ issuer: '{base}/rsa/', audience: '{RESOURCE}' }}\n", usable=0)
    suite.case("glewlwyd, the issuer with a slash: 401", stranger.expect, tokens["rsa"], 401, "they differ by a trailing slash alone")
    suite.case("glewlwyd, the metadata says which slash", says, stranger, f"write '{base}/rsa', character for character")
    elsewhere = suite.front("proxy-glewlwyd-audience", f"  - {{ issuer: '{base}/rsa', audience: '{RESOURCE}/' }}\n")
    suite.case(
        "glewlwyd, the audience with a slash: 401, and the line to change",
        elsewhere.expect, tokens["rsa"], 401, "write it into issuers[0].audience (line 5)",
    )


def says(front, told: str) -> dict:
    from issuers import until

    until(f"the log says: {told}", lambda: told in front.started.text())
    return {}
