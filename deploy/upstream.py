#!/usr/bin/python3
"""A registry for the checks of this folder: one image, asked for by any name with the tag 1.

usage: upstream.py FOLDER      in a network of its own

Plain at 127.0.0.9:8080; with cert.pem and key.pem in FOLDER also over TLS at 127.0.0.9:8443. Every name
resolves to 127.0.0.9 at the name server 127.0.0.1:53. Prints the hex digests of manifest and layer
when it serves.
"""

import hashlib
import json
import pathlib
import socket
import ssl
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


LAYER = b"weir" * 250_000
CONFIG = b"{}"


def described(kind, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return {"mediaType": "application/vnd.oci.image." + kind, "digest": digest, "size": len(data)}


MANIFEST = json.dumps({
    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": described("config.v1+json", CONFIG), "layers": [described("layer.v1.tar", LAYER)],
}).encode()


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        last = self.path.rsplit("/", 1)[1]
        known = {described("", data)["digest"]: data for data in (LAYER, CONFIG, MANIFEST)}
        body = MANIFEST if last == "1" else known.get(last, b"")
        manifest = "application/vnd.oci.image.manifest.v1+json"
        kind = manifest if body is MANIFEST else "application/octet-stream"
        self.send_response(200 if body or last == "" else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def names():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        query, client = server.recvfrom(512)
        end = 12
        while query[end]:
            end += query[end] + 1
        kind = struct.unpack(">H", query[end + 1:end + 3])[0]
        answers = 1 if kind == 1 else 0
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\x09" * answers
        flags = b"\x81\x80\0\1" + struct.pack(">H", answers) + b"\0\0\0\0"
        server.sendto(query[:2] + flags + query[12:end + 5] + answer, client)


def main():
    folder = pathlib.Path(sys.argv[1])
    serving = [ThreadingHTTPServer(("127.0.0.9", 8080), Registry).serve_forever, names]
    if (folder / "cert.pem").exists():
        secure = ThreadingHTTPServer(("127.0.0.9", 8443), Registry)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        secure.socket = context.wrap_socket(secure.socket, server_side=True,
                                            do_handshake_on_connect=False)
        serving.append(secure.serve_forever)
    for serve in serving:
        threading.Thread(target=serve).start()
    print(hashlib.sha256(MANIFEST).hexdigest(), hashlib.sha256(LAYER).hexdigest(), flush=True)


main()
