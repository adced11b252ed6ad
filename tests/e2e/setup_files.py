#!/usr/bin/python3
"""Whether the files that weir prints for clients that are not run here can be read as they are meant:
each by a parser of its format, with every registry in it, and the part of containerd's own
configuration by containerd.

usage: setup_files.py WEIR CONFIGURATION ADDRESS CA
"""

import json
import subprocess
import sys
import tempfile
import tomllib

import yaml

BINARY, CONFIGURATION, ADDRESS, CA = sys.argv[1:]
URL = f"https://{ADDRESS}"


def setup(client):
    """(path, content) of each file; registries; whether clients have to log in."""
    command = [BINARY, "--config", CONFIGURATION, "setup", client, "--address", ADDRESS, "--ca", CA, "--json"]
    out = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert out["address"] == URL, out["address"]
    return out["files"], set(out["registries"]), out["login"]


def one(files, path):
    found = [file["content"] for file in files if file["path"] == path]
    assert found, (path, [file["path"] for file in files])
    return found[0]


def crio():
    files, registries, login = setup("crio")
    table = tomllib.loads(one(files, "/etc/containers/registries.conf.d/50-weir.conf"))
    mirrors = {entry["prefix"]: entry["mirror"][0]["location"] for entry in table["registry"]}
    assert mirrors == {name: f"{ADDRESS}/{name}" for name in registries}, mirrors
    if login:
        crio = tomllib.loads(one(files, "/etc/crio/crio.conf.d/50-weir.conf"))["crio"]["image"]
        assert ADDRESS in json.loads(one(files, crio["global_auth_file"]))["auths"]


def buildkit():
    files, registries, _ = setup("buildkit")
    table = tomllib.loads(one(files, "/etc/buildkit/buildkitd.toml"))["registry"]
    one(files, table.pop(ADDRESS)["ca"][0])
    assert table == {name: {"mirrors": [ADDRESS]} for name in registries}, table


def k3s():
    files, registries, login = setup("k3s")
    table = yaml.safe_load(one(files, "/etc/rancher/k3s/registries.yaml"))
    assert table["mirrors"] == {name: {"endpoint": [URL]} for name in registries}, table
    config = table["configs"][ADDRESS]
    one(files, config["tls"]["ca_file"])
    assert ("auth" in config) == login, config


def containerd():
    part = next(file for file in setup("containerd")[0] if "version = 2" in (file["part_of"] or ""))
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write("version = 2\n" + part["content"])
        file.flush()
        dump = subprocess.run(["containerd", "--config", file.name, "config", "dump"], check=True,
                              capture_output=True, text=True).stdout
    registry = tomllib.loads(dump)["plugins"]["io.containerd.grpc.v1.cri"]["registry"]
    assert registry["config_path"] == "/etc/containerd/certs.d", registry


for check in (crio, buildkit, k3s, containerd):
    check()
