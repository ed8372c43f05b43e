"""A small server that answers like the Hugging Face Hub, for tests."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN, READER = "hf_writerwriterwriter", "hf_readerreaderreader"


class Hub(ThreadingHTTPServer):
    """What the Hub's HTTP API does for one user, ``ada``.

    Attributes:
        repos: Files by repository.
        large: Bytes that came on the way of large files, by their hash.
        asked: Method, path and token of every request.
        gated: Repositories that ask for leave.
        broken: Whether a commit fails.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repos: dict[str, dict[str, bytes]] = {"ada/taken": {}}
        self.large: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.gated: set[str] = set()
        self.broken = False
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Says nothing."""

    def say(self, status: int, value: object = None, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value if value is not None else {}).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path, token))
        if self.command in ("GET", "HEAD"):
            self.read(path)
        elif path == "/api/validate-yaml":
            self.say(200, {"errors": [], "warnings": []})
        elif path.startswith("/large/"):
            self.server.large[path.rpartition("/")[2]] = body
            self.say(200)
        elif token not in (TOKEN, READER):
            self.say(401, {"error": "Invalid credentials in Authorization header"})
        elif token == READER:
            self.say(403, {"error": "You don't have the rights"})
        else:
            self.write(path, body)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any  # noqa: N815

    def write(self, path: str, body: bytes) -> None:
        hub = self.server
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
            if name in hub.repos:
                self.say(409, {"error": "You already created this model repo"})
                return
            hub.repos[name] = {}
            self.say(200, {"url": f"{hub.url}/{name}"})
        elif path == "/api/repos/delete":
            asked = json.loads(body)
            del hub.repos[f"{asked.get('organization') or 'ada'}/{asked['name']}"]
            self.say(200)
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [
                {"path": file["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
                for file in files
            ]  # fmt: skip
            self.say(200, {"files": modes})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{hub.url}/large/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            self.say(200, {"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            self.commit(path.removeprefix("/api/models/").partition("/commit/")[0], body)

    def commit(self, name: str, body: bytes) -> None:
        hub = self.server
        if hub.broken:
            self.say(400, {"error": "secret internals at https://internal/?key=abc"})
            return
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                hub.repos[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                hub.repos[name][value["path"]] = hub.large[value["oid"]]
        self.say(200, {"commitUrl": f"{hub.url}/{name}/commit/{'a' * 40}", "commitOid": "a" * 40, "hookOutput": ""})

    def read(self, path: str) -> None:
        hub = self.server
        name, _, rest = path.removeprefix("/api/models/").strip("/").partition("/resolve/")
        if name not in hub.repos:
            self.say(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        elif name in hub.gated and rest:
            self.say(403, {"error": "gated"}, X_Error_Code="GatedRepo")
        elif not rest:
            self.say(200, self.about(name))
        else:
            file = hub.repos[name][rest.partition("/")[2]]
            headers = {"ETag": f'"{hashlib.sha256(file).hexdigest()}"', "X_Repo_Commit": "a" * 40}
            self.say(200, file, **headers)

    def about(self, name: str) -> dict[str, Any]:
        files = self.server.repos[name]
        card = files.get("README.md", b"").decode()
        data = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else None
        told = {} if data is None else {"cardData": data, "model-index": data.get("model-index")}
        siblings = [{"rfilename": path, "size": len(content)} for path, content in files.items()]
        return {"id": name, "sha": "a" * 40, "siblings": siblings, **told}
