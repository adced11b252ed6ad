#!/usr/bin/python3
"""A token service for docker-registry's `auth: token`, as Docker Hub has one in front of it.

usage: token_server.py PORT KEY.pem LOG

Anonymous clients may pull library/*; the accounts below may do what stands beside them. Every
request is a line in LOG: who asked, for which scope, and what was granted.
"""

import base64
import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization

SERVICE = "registry.e2e.test"
ISSUER = "e2e token server"
LIFETIME = 300

# account: (password, repository prefixes, actions)
ACCOUNTS = {
    "alice": ("alice-secret", ("library/", "acme/"), {"pull"}),
    "carol": ("carol-secret", ("library/",), {"pull"}),
    "pusher": ("pusher-secret", ("",), {"pull", "push"}),
}
ANONYMOUS = ("", ("library/",), {"pull"})


def key_id(public_key):
    """The id by which docker-registry 2.x finds a key of its `rootcertbundle`: the first 240 bits
    of the SHA-256 of the public key's DER, in base32, in groups of four."""
    der = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[i:i + 4] for i in range(0, len(text), 4))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        user, account = self.account()
        if account is None:
            self.answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]},
                        user, query, "refused")
            return
        _, prefixes, may = account
        granted = []
        for scope in " ".join(query.get("scope", [])).split():
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = set(actions.split(",")) & may
            if kind == "repository" and allowed and name.startswith(prefixes):
                granted.append({"type": kind, "name": name, "actions": sorted(allowed)})
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": user, "aud": query.get("service", [SERVICE])[0],
                  "iat": now, "nbf": now - 5, "exp": now + LIFETIME, "access": granted}
        token = jwt.encode(claims, self.server.key, "ES256", {"kid": self.server.kid})
        self.answer(200, {"token": token, "expires_in": LIFETIME}, user, query, granted)

    def account(self):
        """(name, what it may do); what it may do is None where the password is wrong."""
        header = self.headers.get("Authorization")
        if header is None:
            return "", ANONYMOUS
        try:
            scheme, _, value = header.partition(" ")
            user, _, password = base64.b64decode(value).decode().partition(":")
        except ValueError:
            return "?", None
        account = ACCOUNTS.get(user)
        good = scheme.lower() == "basic" and account is not None and account[0] == password
        return user, account if good else None

    def answer(self, status, body, user, query, granted):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        line = {"status": status, "user": user, "scope": query.get("scope", []), "granted": granted}
        self.server.log.write(json.dumps(line) + "\n")

    def log_message(self, *_):
        pass


def main():
    port, key_file, log_file = sys.argv[1:]
    with open(key_file, "rb") as f:
        key = serialization.load_pem_private_key(f.read(), None)
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    server.key, server.kid = key, key_id(key.public_key())
    server.log = open(log_file, "a", buffering=1)
    server.serve_forever()


main()
