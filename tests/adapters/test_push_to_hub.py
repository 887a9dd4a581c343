"""`push_to_hub` and `from_pretrained(id)` over HTTP: huggingface_hub's own client against a small hub of ours on the loopback address."""

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading

import pytest

from tests.adapters.models import bert

TOKEN = "hf_of_this_test"
CHILD = """
import json, sys, warnings
import torch, transformers
from mosld.adapters import Handle, attach
from mosld.config import AdapterConfig, ConfigError
from tests.adapters.models import run

warnings.simplefilter("ignore")
told, said = sys.argv[1], {}
base = transformers.BertModel.from_pretrained("owner/base").eval()
handle = attach(base, AdapterConfig(method="mosld", rank=2, experts="3"))
with torch.no_grad():
    for p in handle.parameters():
        p.add_(0.1 * torch.randn_like(p))
handle.train(False)
said["address"] = handle.push_to_hub("me/adapters", private=True, token=told)
again = Handle.from_pretrained("me/adapters", token=told)
said["same"] = torch.equal(run(again.model), run(base)) and type(again.model) is transformers.BertModel
for name, act in {
    "refused": lambda: handle.push_to_hub("others/adapters", token=told),
    "no token": lambda: handle.push_to_hub("me/adapters", token=False),
    "not there": lambda: Handle.from_pretrained("me/nothing", token=told),
    "private": lambda: Handle.from_pretrained("me/adapters-2", token=False),
    "no adapters": lambda: Handle.from_pretrained("owner/base"),
    "no id": lambda: handle.push_to_hub("a/b/c", token=told),
}.items():
    try:
        act()
    except ConfigError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """What the client asks of a hub, for repositories of a few small files. `repos`: files by name, by repository."""

    repos: dict[str, dict[str, bytes]]
    private: set[str]
    asked: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def read(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def sha(self, repo):
        return hashlib.sha1(b"".join(n.encode() + t for n, t in sorted(self.repos[repo].items()))).hexdigest()

    def allowed(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self):
        body, path = self.read(), self.path.partition("?")[0]
        self.asked.append(f"POST {path}")
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if not self.allowed():
            return self.answer(401, {"error": "log in"})
        if path == "/api/repos/create":
            wanted = json.loads(body)
            repo = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            if not repo.startswith("me/"):
                return self.answer(403, {"error": "not yours"})
            self.repos.setdefault(repo, {})
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.private.add(repo)
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{repo}", "id": repo})
        repo, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path).groups()
        if what == "preupload":
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
            return self.answer(200, {"files": files, "commitOid": self.sha(repo)})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        url = f"http://{self.headers['Host']}/{repo}/commit/{self.sha(repo)}"
        return self.answer(200, {"success": True, "commitUrl": url, "commitOid": self.sha(repo), "hookOutput": ""})

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        if path == "/api/datasets":
            return self.answer(200, [])
        match = re.match(r"(?:/api/models)?/([^/]+/[^/]+)(?:/(revision|resolve|tree)/([^/]+)(?:/(.+))?)?$", path)
        repo, what, _, name = match.groups() if match else (None,) * 4
        if repo not in self.repos or (repo in self.private and not self.allowed()):
            return self.answer(401 if repo else 404, {"error": "no such repository"}, X_Error_Code="RepoNotFound")
        files, sha = self.repos[repo], self.sha(repo)
        if what == "resolve":
            if name not in files:
                return self.answer(404, {"error": "no such file"}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            return self.answer(200, files[name], X_Repo_Commit=sha, ETag=f'"{hashlib.sha1(files[name]).hexdigest()}"')
        if what == "tree":
            return self.answer(200, [{"type": "file", "path": n, "size": len(t), "oid": hashlib.sha1(t).hexdigest()} for n, t in files.items()])
        return self.answer(
            200, {"id": repo, "modelId": repo, "sha": sha, "private": repo in self.private, "siblings": [{"rfilename": n} for n in files]}
        )

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path):
    """The hub with a base on it, and the environment of a process that uses it."""
    bert(2).save_pretrained(tmp_path / "base")
    files = {f.name: f.read_bytes() for f in (tmp_path / "base").iterdir()}
    handler = type("Ours", (Hub,), {"repos": {"owner/base": files}, "private": set(), "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    left = {n: v for n, v in os.environ.items() if not n.lower().endswith("_proxy") and not n.startswith(("HF_", "TRANSFORMERS_"))}
    yield handler, {**left, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    server.shutdown()
    server.server_close()


def test_pushed_and_loaded_again(hub):
    handler, environment = hub
    done = subprocess.run([sys.executable, "-c", CHILD, TOKEN], capture_output=True, text=True, timeout=300, env={**environment, "PYTHONPATH": "."})
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["address"] == f"{environment['HF_ENDPOINT']}/me/adapters" and said["same"]
    files = handler.repos["me/adapters"]
    assert set(files) - {".gitattributes"} == {"adapter.safetensors", "adapter.json", "README.md"} and "me/adapters" in handler.private
    base = json.loads(files["adapter.json"])["base"]
    assert base["name"] == "owner/base" and base["class"] == "BertModel"
    assert base["revision"] == hashlib.sha1(b"".join(n.encode() + t for n, t in sorted(handler.repos["owner/base"].items()))).hexdigest()
    assert b"base_model: owner/base" in files["README.md"] and b'Handle.from_pretrained("me/adapters")' in files["README.md"]
    assert re.match(r"push: the hub did not take 'others/adapters' \(\w+\); log in with a token that may write there\.$", said["refused"])
    assert re.match(r"push: the hub did not take 'me/adapters' ", said["no token"])
    for name, repo in {"not there": "me/nothing", "private": "me/adapters-2"}.items():
        assert re.match(rf"adapter: the hub does not give '{repo}' \(\w+\); check the name, or log in if it is private\.$", said[name])
    assert re.match(r"adapter: '.*' holds no adapter\.json", said["no adapters"])
    assert said["no id"] == "push: 'a/b/c' is not of the form owner/name."
