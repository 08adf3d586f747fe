"""An issuer's key set and an MCP server that answers everything, behind https on a free port of 127.0.0.1."""

import base64
import http.server
import json
import ssl
import subprocess
import sys

keys = sys.argv[1]
command = ["openssl", "rsa", "-in", f"{keys}/rsa2048-one.pem", "-noout", "-modulus"]
modulus = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("=")[1]
n = base64.urlsafe_b64encode(bytes.fromhex(modulus)).rstrip(b"=").decode()
key_set = {"keys": [{"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", "n": n, "e": "AQAB"}]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(key_set)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert "Authorization" not in self.headers, "the client's token has come through"
        self.answer({"jsonrpc": "2.0", "id": message["id"], "result": {}})

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{keys}/localhost.pem", f"{keys}/localhost.key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
