"""PaddleNLP's storage, ModelScope and AI Studio.

Their caches lie where PaddleNLP 3.0.0b4, modelscope up to 1.40 and modelscope-hub 0.5 have theirs: what those have downloaded is
found here, and the other way round. ModelScope is asked over HTTP, as its own package does: it takes two kinds of request, and the
package is 30 MB and has moved its cache three times.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from paddlemix_qwenvl.hub.folders import FolderSource


def _variable(name: str, default: str) -> str:
    return os.environ.get(name, "").strip().rstrip("/") or default


class PaddleNLP(FolderSource):
    """PaddleNLP's storage, a bucket of Baidu's object storage (source: `paddlenlp.utils.download.bos_download`)."""

    key, title, variable = "paddlenlp", "PaddleNLP's storage BOS", "PPNLP_ENDPOINT"
    main = None

    @property
    def endpoint(self) -> str:
        return _variable(self.variable, "https://bj.bcebos.com/paddlenlp")

    def _home(self) -> Path:
        return Path(_variable("PPNLP_HOME", "~/.paddlenlp"), "models")

    def _places(self) -> list[Path]:
        return [self.root / self.name]

    def _look_up(self, file: str):
        from paddlemix_qwenvl.hub.transfer import Remote, ask

        url = f"{self.endpoint}/models/community/{quote(self.name)}/{quote(file)}"
        headers = ask("HEAD", url).headers
        etag = headers.get("ETag", "").strip('"').lower()
        # The ETag is the content's MD5, but of a file that was sent in parts, when it begins with "-".
        digest = ("md5", etag) if re.fullmatch("[0-9a-f]{32}", etag) else None
        return Remote(url, _size(headers.get("Content-Length")), digest, etag)


class ModelScope(FolderSource):
    """modelscope.cn (source: `modelscope_hub._legacy_api` and `_download` 0.5.1)."""

    key, title, variable = "modelscope", "ModelScope", "MODELSCOPE_ENDPOINT"

    @property
    def endpoint(self) -> str:
        domain = _variable("MODELSCOPE_DOMAIN", "www.modelscope.cn")
        return _variable(self.variable, domain if "://" in domain else f"https://{domain}")

    def _home(self) -> str:
        return _variable("MODELSCOPE_CACHE", "~/.cache/modelscope")

    def _places(self) -> list[Path]:
        new = self.root / "models" / self.name.replace("/", "--") / "snapshots" / (self.revision or self.main)
        owner, _, model = self.name.rpartition("/")
        older = [self.root / part / owner / model.replace(".", "___") for part in ("models", "hub/models", "hub", "")]
        return [new, *(place for place in older if self.revision in (None, _revision_of(place)))]

    @cached_property
    def _listing(self) -> dict[str, dict]:
        from paddlemix_qwenvl.hub.transfer import Absent, ask

        url = f"{self.endpoint}/api/v1/models/{quote(self.name)}/repo/files?Revision={self._asked}&Recursive=True"
        try:
            files = ask("GET", url, self._headers()).json()["Data"]["Files"]
            return {file["Path"]: file for file in files if file["Type"] != "tree"}
        except Absent as error:
            raise Absent("it does not have the model, or not that revision of it") from error
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"its answer to {url} is no list of files") from error

    @property
    def _asked(self) -> str:
        return quote(self.revision or self.main, safe="")

    def _headers(self) -> dict[str, str]:
        token = os.environ.get("MODELSCOPE_API_TOKEN", "").strip()
        return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}

    def _look_up(self, file: str):
        from paddlemix_qwenvl.hub.transfer import Absent, Remote

        if file not in self._listing:
            raise Absent("it does not have the file")
        listed = self._listing[file]
        url = f"{self.endpoint}/api/v1/models/{quote(self.name)}/repo?Revision={self._asked}&FilePath={quote(file, safe='')}"
        sha256 = str(listed.get("Sha256")).lower()
        digest = ("sha256", sha256) if re.fullmatch("[0-9a-f]{64}", sha256) else None
        return Remote(url, _size(listed.get("Size")), digest, sha256, self._headers())


class AIStudio(FolderSource):
    """Baidu's AI Studio (source: `paddlenlp.utils.download.aistudio_hub_download`)."""

    key, title, variable = "aistudio", "AI Studio", "AISTUDIO_ENDPOINT"

    @property
    def endpoint(self) -> str:
        return _variable(self.variable, "https://git.aistudio.baidu.com")

    def _home(self) -> Path:
        caches = _variable("XDG_CACHE_HOME", "~/.cache")
        home = Path(_variable("AISTUDIO_HOME", os.path.join(caches, "paddle")), "aistudio")
        return Path(_variable("AISTUDIO_HUB_CACHE", str(home)))

    def _places(self) -> list[Path]:
        return [self.root / f"models--{self.name.replace('/', '--')}" / "snapshots" / (self.revision or self.main)]

    def _look_up(self, file: str):
        from paddlemix_qwenvl.hub.transfer import Remote, ask

        url = f"{self.endpoint}/api/v1/repos/{quote(self.name)}/{{}}/{quote(file)}"
        if self.revision:
            url += f"?ref={quote(self.revision, safe='')}"
        token = next(filter(None, map(os.environ.get, ("AISTUDIO_ACCESS_TOKEN", "AISTUDIO_TOKEN"))), "").strip()
        headers = {"Authorization": f"token {token}"} if token else {}
        try:
            about = ask("GET", url.format("contents"), headers).json()
            return Remote(url.format("media"), _size(about["size"]), None, str(about["sha"]), headers)
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"its answer to {url.format('contents')} is no description of a file") from error


def _size(said: str | int | None) -> int | None:
    """A number of bytes as a server says it, None for what is none."""
    return int(said) if str(said).isdecimal() else None


def _revision_of(folder: Path) -> str | None:
    """The revision that modelscope noted in a folder of its older caches."""
    try:
        noted = re.match(r"Revision:([^,]+)", (folder / ".mv").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return noted and noted[1].strip()
