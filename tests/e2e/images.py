#!/usr/bin/python3
"""Makes the images of the end-to-end tests as folders that skopeo can push, byte for byte.

usage: images.py FOLDER

  hello    OCI layout: an index over amd64 and arm64; amd64 runs
  classic  skopeo `dir:`, a Docker schema 2 manifest; runs
  secret   OCI layout, one manifest: for who has an account at the first registry
  app      OCI layout, one manifest: for who has an account at the second
  big      OCI layout, one layer of 64 MiB that does not compress

Contents follow from fixed seeds and times, so a digest is the same on every run on one machine.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import random
import sys
import tarfile

WHEN, MTIME = "2024-01-01T00:00:00Z", 1704067200
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
TYPES = {
    "oci": (OCI + "manifest.v1+json", OCI + "config.v1+json", OCI + "layer.v1.tar+gzip"),
    "docker": (DOCKER + "distribution.manifest.v2+json", DOCKER + "container.image.v1+json",
               DOCKER + "image.rootfs.diff.tar.gzip"),
}
HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
THERE = "arm64" if HERE == "amd64" else "amd64"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def tar(files):
    """files: name -> bytes, or None for a folder, or the target of a symbolic link"""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = MTIME, 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def rootfs(name):
    """Two layers that no other image has: a busybox with a mark in it, and a small file."""
    with open("/bin/busybox", "rb") as f:
        busybox = f.read()
    base = {folder: None for folder in ("bin", "etc", "proc", "sys", "dev", "tmp")}
    base |= {"bin/busybox": busybox, "bin/sh": "busybox", "bin/cat": "busybox",
             "etc/mark": f"{name}\n".encode()}
    return [tar(base), tar({"etc": None, "etc/image": f"this is {name}\n".encode()})]


class Folder:
    """Where blobs go: an OCI layout or a folder as skopeo's `dir:` has it."""

    def __init__(self, path, flavour):
        self.path, self.flavour = path, flavour
        self.blobs = path if flavour == "docker" else os.path.join(path, "blobs", "sha256")
        os.makedirs(self.blobs)

    def write(self, name, data):
        with open(os.path.join(self.path, name), "wb") as f:
            f.write(data)

    def blob(self, media_type, data):
        with open(os.path.join(self.blobs, sha256(data)), "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + sha256(data), "size": len(data)}

    def manifest(self, layers, level, architecture):
        manifest_type, config_type, layer_type = TYPES[self.flavour]
        config = json.dumps({
            "created": WHEN, "architecture": architecture, "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/cat", "/etc/image"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(raw) for raw in layers]},
            "history": [{"created": WHEN, "created_by": "e2e"} for _ in layers],
        }).encode()
        # Indented by three, so that whoever writes a manifest anew changes its digest.
        return json.dumps({
            "schemaVersion": 2, "mediaType": manifest_type,
            "config": self.blob(config_type, config),
            "layers": [self.blob(layer_type, gzip.compress(raw, level, mtime=0)) for raw in layers],
        }, indent=3).encode()

    def finish(self, top_type, top):
        """Makes `top` what a copy of the folder copies."""
        if self.flavour == "docker":
            self.write("version", b"Directory Transport Version: 1.1\n")
            self.write("manifest.json", top)
            return
        entry = self.blob(top_type, top)
        self.write("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        self.write("index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())


def single(path, flavour, layers, level=6):
    folder = Folder(path, flavour)
    folder.finish(TYPES[flavour][0], folder.manifest(layers, level, HERE))


def index(path, name):
    folder = Folder(path, "oci")
    members = []
    for architecture in (HERE, THERE):
        manifest = folder.manifest(rootfs(f"{name} {architecture}"), 6, architecture)
        members.append({**folder.blob(TYPES["oci"][0], manifest),
                        "platform": {"architecture": architecture, "os": "linux"}})
    top = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": members}
    folder.finish(OCI + "index.v1+json", json.dumps(top, indent=3).encode())


def main():
    os.makedirs(sys.argv[1], exist_ok=True)
    at = lambda name: os.path.join(sys.argv[1], name)  # noqa: E731
    index(at("hello"), "hello")
    single(at("classic"), "docker", rootfs("classic"))
    single(at("secret"), "oci", rootfs("secret"))
    single(at("app"), "oci", rootfs("app"))
    noise = random.Random("big").randbytes(64 << 20)
    single(at("big"), "oci", [tar({"noise": noise})], level=0)


main()
