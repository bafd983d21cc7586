"""A Hub on loopback for tests with the real client: what pushing and pulling ask of it, and its failures on demand.

It keeps everything in memory and checks tokens, revisions and hashes. It knows no Xet, no organisations and no quotas.
Large files are answered with a redirect to another host name, as the Hub answers with one to its store.
"""

import base64
import hashlib
import json
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITE_TOKEN = "hf_" + "w" * 34
READ_TOKEN = "hf_" + "r" * 34
USER = "user"

_ROLES = {WRITE_TOKEN: "write", READ_TOKEN: "read"}
_LARGE = (".safetensors", ".bin", ".pt", ".pth", ".pkl", ".onnx", ".parquet", ".arrow", ".tar", ".zip", ".jpg", ".png")
_DATE = "2025-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class StoredFile:
    content: bytes
    is_large: bool

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """What a listing says of it."""
        size = len(self.content)
        large = {"lfs": {"oid": self.sha256, "sha256": self.sha256, "size": size, "pointerSize": 134}}
        return {"type": "file", "path": path, "oid": self.oid, "size": size, **(large if self.is_large else {})}


@dataclass(frozen=True)
class Commit:
    title: str
    description: str
    files: dict[str, StoredFile]
    parent: str | None

    @property
    def sha(self) -> str:
        listing = sorted((path, file.sha256) for path, file in self.files.items())
        return hashlib.sha1(repr((self.title, self.description, listing, self.parent)).encode()).hexdigest()


@dataclass
class Repo:
    kind: str  # "models" or "datasets", as in addresses
    name: str
    is_private: bool = False
    is_gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[str, str] = field(default_factory=dict)  # "refs/pr/1": commit

    def __post_init__(self) -> None:
        self.branches["main"] = self.add(Commit("initial commit", "", {}, None))

    def add(self, commit: Commit) -> str:
        self.commits[commit.sha] = commit
        return commit.sha

    def find(self, revision: str) -> str:
        for names in (self.branches, self.tags, self.pull_requests):
            if revision in names:
                return names[revision]
        if revision in self.commits:
            return revision
        raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Path and content of every file, for tests to look at."""
        return {path: file.content for path, file in self.commits[self.find(revision)].files.items()}


class RefusalError(Exception):
    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Answer:
    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # as sent, quoted, without the query
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None


@dataclass
class Failure:
    """What goes wrong with the next `times` requests of a method whose path matches."""

    method: str
    path: str
    times: int
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after: int = 0  # bytes of the body, sent or received, before the connection drops


class HubServer:
    """The server: `url` is what `HF_ENDPOINT` becomes; `requests` is every request that came, with its body."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large_files: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.part_size: int | None = None  # set it for uploads in parts of so many bytes
        self.requests: list[Request] = []
        self.failures: list[Failure] = []
        self.connections: list[socket.socket] = []
        self.faults: list[str] = []  # tracebacks of its own
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.store_url = f"http://localhost:{self._server.server_port}"  # another origin: tokens do not go there

    @contextmanager
    def serving(self) -> Iterator["HubServer"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            for connection in self.connections:  # which clients keep open
                connection.close()
            thread.join()

    # --- for tests --------------------------------------------------------------------------------------------------

    def repo(self, name: str, kind: str = "models") -> Repo:
        return self.repos[kind, name]

    def fail(self, status: int, path: str = "", *, method: str = "", times: int = 1, **headers: str) -> None:
        """Answer the next `times` requests whose path matches with a status."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.failures.append(Failure(method, path, times, status, named))

    def drop(self, path: str = "", *, method: str = "", after: int = 0, times: int = 1) -> None:
        """Drop the connection of the next `times` requests, after so many bytes of the body in either direction."""
        self.failures.append(Failure(method, path, times, after=after))

    def next_failure(self, method: str, path: str) -> Failure | None:
        with self.lock:
            for failure in self.failures:
                if failure.times and failure.method in ("", method) and re.search(failure.path, path):
                    failure.times -= 1
                    return failure
        return None

    # --- answers ----------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        for method, pattern, handle in _ROUTES:
            found = re.fullmatch(pattern, request.path)
            if found and request.method in method.split("|"):
                with self.lock:
                    return handle(
                        self, request, **{name: unquote(text or "") for name, text in found.groupdict().items()}
                    )
        raise RefusalError(404, None, f"This server has no {request.method} {request.path}")

    def role(self, request: Request) -> str | None:
        if request.token is not None and request.token not in _ROLES:
            raise RefusalError(401, None, "Invalid credentials in Authorization header")
        return _ROLES.get(request.token or "")

    def find(self, request: Request, kind: str, name: str, *, write: bool = False, content: bool = False) -> Repo:
        role, repo = self.role(request), self.repos.get((kind, name))
        if repo is None or (repo.is_private and role is None):
            raise RefusalError(404 if role else 401, "RepoNotFound", "Repository not found")
        if write and role is None:
            raise RefusalError(401, None, "Invalid username or password.")
        if write and (role != "write" or not name.startswith(f"{USER}/")):
            raise RefusalError(403, None, "Forbidden: you must use a write token to upload to a repository.")
        if content and repo.is_gated and role != "write":
            raise RefusalError(403 if role else 401, "GatedRepo", f"Access to model {name} is restricted.")
        return repo

    def who_am_i(self, request: Request) -> Answer:
        role = self.role(request)
        if role is None:
            raise RefusalError(401, None, "Invalid username or password.")
        return _json({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": role}}})

    def create(self, request: Request) -> Answer:
        if self.role(request) != "write":
            raise RefusalError(
                403 if self.role(request) else 401, None, "You don't have the rights to create a repository"
            )
        asked = request.json
        kind, name = f"{asked.get('type') or 'model'}s", f"{asked.get('organization') or USER}/{asked['name']}"
        if not name.startswith(f"{USER}/"):
            raise RefusalError(403, None, f"You don't have the rights to create a {kind[:-1]} under this namespace")
        address = {"url": f"{self.url}/{'' if kind == 'models' else 'datasets/'}{name}", "name": name}
        if (kind, name) in self.repos:
            return _json({**address, "error": "You already created this repo"}, 409)
        is_private = asked.get("private") or asked.get("visibility") == "private"
        self.repos[kind, name] = Repo(kind, name, is_private=bool(is_private))
        return _json(address)

    def describe(self, request: Request, kind: str, name: str, revision: str = "main") -> Answer:
        repo = self.find(request, kind, name)
        sha = repo.find(revision)
        files = repo.commits[sha].files
        card = _card_data(files)
        entries = [{"rfilename": path, **_sizes(request, file.entry(path))} for path, file in sorted(files.items())]
        about = {"_id": name, "id": name, "sha": sha, "private": repo.is_private, "gated": repo.is_gated}
        about |= {"siblings": entries, "cardData": card, "tags": card.get("tags", []), "downloads": 0, "likes": 0}
        about |= {"createdAt": _DATE, "lastModified": _DATE, "disabled": False}
        if kind == "models":
            config = json.loads(files["config.json"].content) if "config.json" in files else {}
            about |= {"modelId": name, "config": {"model_type": config.get("model_type")}}
            about |= {field: card[field] for field in ("pipeline_tag", "library_name") if field in card}
        return _json(about)

    def preupload(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repo = self.find(request, kind, name, write=True)
        present = repo.commits[repo.find(revision)].files
        answers = []
        for file in request.json["files"]:
            path, is_large = file["path"], file["path"].endswith(_LARGE) or file["size"] > 10_000_000
            known = present.get(path)
            oid = known and (known.sha256 if known.is_large else known.oid)
            mode = "lfs" if is_large else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return _json({"files": answers, "commitOid": repo.find(revision)})

    def large_batch(self, request: Request, prefix: str, name: str) -> Answer:
        self.find(request, "datasets" if prefix else "models", name, write=True)
        objects = []
        for item in request.json["objects"]:
            oid, size = item["oid"], item["size"]
            if oid in self.large_files:
                objects.append({"oid": oid, "size": size})
                continue
            upload: dict[str, Any] = {"href": f"{self.store_url}/store/{oid}"}
            if self.part_size is not None and size > self.part_size:
                numbers = range(1, -(-size // self.part_size) + 1)
                header = {str(number): f"{self.store_url}/store/{oid}/part/{number}" for number in numbers}
                upload = {"href": f"{self.url}/complete/{oid}", "header": {**header, "chunk_size": self.part_size}}
            verify = {"href": f"{self.url}/verify/{oid}"}
            objects.append({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
        return _json({"transfer": "basic", "objects": objects})

    def store(self, request: Request, oid: str) -> Answer:
        return self._keep(oid, request.body)

    def store_part(self, request: Request, oid: str, number: str) -> Answer:
        self.parts[oid, int(number)] = request.body
        return Answer(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    def complete(self, request: Request, oid: str) -> Answer:
        numbers = [part["partNumber"] for part in request.json["parts"]]
        return self._keep(oid, b"".join(self.parts[oid, number] for number in numbers))

    def verify(self, request: Request, oid: str) -> Answer:
        if len(self.large_files.get(oid, b"")) != request.json["size"]:
            raise RefusalError(404, None, "There is no such object")
        return _json({})

    def _keep(self, oid: str, content: bytes) -> Answer:
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusalError(400, None, "The content is not that of its hash")
        self.large_files[oid] = content
        return _json({})

    def commit(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repo = self.find(request, kind, name, write=True)
        lines = [json.loads(line) for line in request.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        parent = repo.find(revision)
        if header.get("parentCommit", parent) != parent:
            raise RefusalError(412, None, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[parent].files)
        for line in lines:
            self._change(files, line["key"], line["value"])
        sha = repo.add(Commit(header["summary"], header.get("description", ""), files, parent))
        url = f"{self.url}/{'' if kind == 'models' else 'datasets/'}{name}"
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{url}/commit/{sha}"}
        if request.query.get("create_pr") == ["1"]:
            number = len(repo.pull_requests) + 1
            repo.pull_requests[f"refs/pr/{number}"] = sha
            answer["pullRequestUrl"] = f"{url}/discussions/{number}"
        else:
            (repo.pull_requests if revision.startswith("refs/pr/") else repo.branches)[revision] = sha
        return _json(answer)

    def _change(self, files: dict[str, StoredFile], key: str, value: dict[str, Any]) -> None:
        if key == "file":
            files[value["path"]] = StoredFile(base64.b64decode(value["content"]), is_large=False)
        elif key == "lfsFile":
            if value["oid"] not in self.large_files:
                raise RefusalError(422, None, f"The large file {value['path']} was not uploaded")
            files[value["path"]] = StoredFile(self.large_files[value["oid"]], is_large=True)
        elif key == "deletedFile":
            del files[value["path"]]
        elif key == "deletedFolder":
            for path in [path for path in files if path.startswith(value["path"].rstrip("/") + "/")]:
                del files[path]

    def tree(self, request: Request, kind: str, name: str, revision: str, folder: str = "") -> Answer:
        repo = self.find(request, kind, name)
        files = repo.commits[repo.find(revision)].files
        start = f"{folder}/" if folder else ""
        below = {path: file for path, file in files.items() if path.startswith(start)}
        if folder and not below:
            raise RefusalError(404, "EntryNotFound", f"{folder} does not exist on {revision!r}")
        is_recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries = {}
        for path, file in sorted(below.items()):
            parts = path[len(start) :].split("/")
            for depth in range(1, len(parts) if is_recursive else min(2, len(parts))):
                parent = start + "/".join(parts[:depth])
                entries[parent] = {"type": "directory", "path": parent, "oid": "0" * 40, "size": 0}
            if is_recursive or len(parts) == 1:
                entries[path] = file.entry(path)
        return _json(list(entries.values()))

    def paths_info(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repo = self.find(request, kind, name)
        files = repo.commits[repo.find(revision)].files
        found = []
        for path in parse_qs(request.body.decode()).get("paths", []):
            if path in files:
                found.append(files[path].entry(path))
            elif any(other.startswith(f"{path}/") for other in files):
                found.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        return _json(found)

    def refs(self, request: Request, kind: str, name: str) -> Answer:
        repo = self.find(request, kind, name)
        listed = {"branches": ("refs/heads/", repo.branches), "tags": ("refs/tags/", repo.tags)}
        listed |= {"pullRequests": ("", repo.pull_requests), "converts": ("", {})}
        return _json(
            {
                kind_of_ref: [{"name": each, "ref": start + each, "targetCommit": sha} for each, sha in names.items()]
                for kind_of_ref, (start, names) in listed.items()
            }
        )

    def history(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repo = self.find(request, kind, name)
        sha: str | None = repo.find(revision)
        listed = []
        while sha is not None:
            commit = repo.commits[sha]
            listed.append({"id": sha, "title": commit.title, "message": commit.description, "date": _DATE})
            listed[-1]["authors"] = [{"user": USER}]
            sha = commit.parent
        return _json(listed)

    def branch(self, request: Request, kind: str, name: str, branch: str) -> Answer:
        repo = self.find(request, kind, name, write=True)
        if branch in repo.branches:
            raise RefusalError(409, None, f"The branch {branch} exists")
        repo.branches[branch] = repo.find(request.json.get("startingPoint", "main"))
        return _json({})

    def tag(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repo = self.find(request, kind, name, write=True)
        if request.json["tag"] in repo.tags:
            raise RefusalError(409, None, f"The tag {request.json['tag']} exists")
        repo.tags[request.json["tag"]] = repo.find(revision)
        return _json({})

    def resolve(self, request: Request, prefix: str, name: str, revision: str, path: str) -> Answer:
        repo = self.find(request, "datasets" if prefix else "models", name, content=True)
        sha = repo.find(revision)
        file = repo.commits[sha].files.get(path)
        if file is None:
            refusal = RefusalError(404, "EntryNotFound", "Entry not found")
            return _refused(refusal, {"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.oid}"'}
        if not file.is_large:
            return _part_of(file.content, request, headers)
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
        return Answer(status=302, headers={**headers, "Location": f"{self.store_url}/store/{file.sha256}"})

    def from_store(self, request: Request, oid: str) -> Answer:
        if request.token is not None:
            raise RefusalError(400, None, "A token came to the store, which is not the Hub's")
        return _part_of(self.large_files[oid], request, {"ETag": f'"{oid}"'})

    def validate(self, request: Request) -> Answer:
        return _json({"errors": [], "warnings": []})


def _json(content: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(content).encode(), status, {"Content-Type": "application/json"})


def _refused(refusal: RefusalError, headers: dict[str, str] | None = None) -> Answer:
    answer = _json({"error": refusal.message}, refusal.status)
    answer.headers |= {"X-Error-Message": refusal.message, **(headers or {})}
    if refusal.code is not None:
        answer.headers["X-Error-Code"] = refusal.code
    return answer


def _part_of(content: bytes, request: Request, headers: dict[str, str]) -> Answer:
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return Answer(content, 200, headers)
    first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
    if first >= len(content):
        raise RefusalError(416, None, "Range not satisfiable")
    return Answer(content[first : last + 1], 206, {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"})


def _card_data(files: dict[str, StoredFile]) -> dict[str, Any]:
    text = files["README.md"].content.decode() if "README.md" in files else ""
    found = re.match(r"---\n(.*?)\n---(?:\n|$)", text, re.DOTALL)
    return (yaml.safe_load(found[1]) or {}) if found else {}


def _sizes(request: Request, entry: dict[str, Any]) -> dict[str, Any]:
    if "blobs" not in request.query:
        return {}
    return {"size": entry["size"], "blobId": entry["oid"], **({"lfs": entry["lfs"]} if "lfs" in entry else {})}


_API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_GIT = r"/(?P<prefix>datasets/)?(?P<name>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", r"/api/whoami-v2", HubServer.who_am_i),
    ("POST", r"/api/validate-yaml", HubServer.validate),
    ("POST", r"/api/repos/create", HubServer.create),
    ("GET", _API, HubServer.describe),
    ("GET", rf"{_API}/revision/{_REVISION}", HubServer.describe),
    ("POST", rf"{_API}/preupload/{_REVISION}", HubServer.preupload),
    ("POST", rf"{_API}/commit/{_REVISION}", HubServer.commit),
    ("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<folder>.+))?", HubServer.tree),
    ("POST", rf"{_API}/paths-info/{_REVISION}", HubServer.paths_info),
    ("GET", rf"{_API}/refs", HubServer.refs),
    ("GET", rf"{_API}/commits/{_REVISION}", HubServer.history),
    ("POST", rf"{_API}/branch/(?P<branch>[^/]+)", HubServer.branch),
    ("POST", rf"{_API}/tag/{_REVISION}", HubServer.tag),
    ("POST", rf"{_GIT}\.git/info/lfs/objects/batch", HubServer.large_batch),
    ("PUT", r"/store/(?P<oid>\w+)", HubServer.store),
    ("PUT", r"/store/(?P<oid>\w+)/part/(?P<number>\d+)", HubServer.store_part),
    ("POST", r"/complete/(?P<oid>\w+)", HubServer.complete),
    ("POST", r"/verify/(?P<oid>\w+)", HubServer.verify),
    ("GET|HEAD", r"/store/(?P<oid>\w+)", HubServer.from_store),
    ("GET|HEAD", rf"{_GIT}/resolve/{_REVISION}/(?P<path>.+)", HubServer.resolve),
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        failure = self.hub.next_failure(self.command, address.path)
        drops = failure is not None and failure.status is None
        if drops and self.command in ("PUT", "POST"):
            self.rfile.read(min(failure.after, int(self.headers.get("Content-Length", failure.after))))
            return self._drop()
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, address.path, parse_qs(address.query), headers, self._read_body())
        self.hub.requests.append(request)
        if failure is not None and failure.status is not None:
            answer = _refused(RefusalError(failure.status, None, "as the test asked"), failure.headers)
        else:
            try:
                answer = self.hub.answer(request)
            except RefusalError as refusal:
                answer = _refused(refusal)
            except Exception:
                self.hub.faults.append(traceback.format_exc())
                answer = _refused(RefusalError(418, None, "The server of the tests is broken"))
        return self._send(answer, failure.after if drops else None)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _send(self, answer: Answer, drop_after: int | None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content[:drop_after])
        if drop_after is not None:
            self._drop()

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _drop(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
