"""Digests of files, and JSON text as outputs contain it: a change here changes outputs."""

import hashlib
import json
from pathlib import Path
from typing import Any


def json_bytes(content: Any) -> bytes:
    """Indented JSON with sorted keys and a final newline, in UTF-8."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file, read in pieces; `algorithm` is any name of hashlib's."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def digest_tree(directory: Path) -> str:
    """SHA-256 over the names and contents of a directory's files, which has no subdirectories."""
    lines = [f"{path.name} {digest(path)}\n" for path in sorted(directory.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
