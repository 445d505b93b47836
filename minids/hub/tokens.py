"""The tokenizer files of a model folder, and the ids of the special tokens they define."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from minids.hub.config import read_json

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "ranks.tiktoken",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
    "tiktoken.model",
    "vocab.json",
    "merges.txt",
)
ROLES = ("bos", "eos", "pad")


def special_ids(folder: Path | None) -> dict[str, int | None]:
    """Ids of BOS, EOS and padding under the names of config.json; None where there is none."""
    found: dict[str, int | None] = {f"{role}_token_id": None for role in ROLES}
    if folder is None or not (folder / "tokenizer_config.json").is_file():
        return found
    about = read_json(folder / "tokenizer_config.json")
    table: dict[str, Any] = {}
    if (folder / "tokenizer.json").is_file():
        table = read_json(folder / "tokenizer.json")
    ids = {token["content"]: token["id"] for token in table.get("added_tokens", [])}
    for role in ROLES:
        token = about.get(f"{role}_token")
        content = token.get("content") if isinstance(token, dict) else token
        found[f"{role}_token_id"] = ids.get(content)
    return found


def copy_tokenizer(source: Path, folder: Path) -> list[str]:
    """Copy what there is of a tokenizer → the names copied."""
    names = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if names:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, folder / name)
    return names
