"""A store's card: what it is and how to use it, in Markdown with the front matter that the hub reads.

    print(card({"val": open_store("stores/vqa-v2/vit-1a2b3c4d/val")}))

Everything in it comes from the manifests. It lies beside the store, for people; no checksum lists it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from umecache.stores.files import CARD, size_of, walk
from umecache.stores.reader import Store

__all__ = ["CARD", "MARK", "card", "index", "store_bytes"]

MARK = "<!-- written by umecache store push; without this line it is yours and stays as it is -->"


def card(stores: Mapping[str, Store], *, url: str | None = None, licence: str | None = None) -> str:
    """The card of one store (named "") or of several, by their folders.

    Args:
        url: where they can be pulled from.
        licence: an SPDX name; None: what the manifest says, or unknown.
    """
    first = next(iter(stores.values())).manifest
    licence = licence or _licence(first)
    model, modality = _text(first.get("model") or "unknown"), _text(first.get("modality") or "features")
    names = list(dict.fromkeys(_dataset(store.manifest, "name") for store in stores.values()))
    title = f"{model} over {', '.join(names)}"
    head = {
        "license": licence or "unknown",
        "tags": ["umecache", "feature-store", modality],
        "pretty_name": f"Hidden states of {title}",
    }
    front = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items())
    lines = ["---", front, "---", MARK, "", f"# Hidden states of {title}", ""]
    lines += [
        f"Token-level hidden states of the frozen {modality} encoder `{model}`, cached with "
        "umecache so that fusion methods can be trained without running it again.",
        "",
        *_table(stores),
        "",
        *_origin(first, licence),
        "",
        "## How to use it",
        "",
        "```bash",
        f"umecache store pull {url or 'URL'} STORE",
        "umecache store verify STORE",
        "```",
        "",
        "```python",
        "from umecache.stores import open_store",
        "",
        f'store = open_store("STORE{"" if "" in stores else "/" + _text(next(iter(stores)))}")',
        "store[store.ids[0]]  # [T, D]",
        "```",
        "",
    ]
    return "\n".join(lines)


def _table(stores: Mapping[str, Store]) -> list[str]:
    rows = ["| store | split | inputs | failed | tokens | width | stored as | bytes | fingerprint |", "|---" * 9 + "|"]
    for name, store in stores.items():
        facts = store.manifest
        kind = " ".join(str(facts[key]) for key in ("format", "dtype", "compression") if facts.get(key))
        part = facts.get("subset")
        split = _dataset(facts, "split") + (" (a part of it)" if isinstance(part, Mapping) else "")
        cells = [
            f"`{_text(name)}`" if name else "this",
            split,
            f"{len(store):,}",
            f"{len(store.failures):,}",
            f"{facts['tokens']:,}",
            f"{store.dim:,}",
            kind,
            f"{store_bytes(store):,}",
            f"`{store.fingerprint}`",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _origin(facts: Mapping[str, Any], licence: str | None) -> list[str]:
    """Where the features come from and under what terms."""
    lines = ["## Origin", ""]
    for group in ("recipe", "origin"):
        told = facts.get(group)
        for key, value in (told if isinstance(told, Mapping) else {}).items():
            if isinstance(value, str | int | float | bool | list) and value != "":
                lines.append(f"- {group}.{_text(key)}: {_text(value)}")
    terms = f"Licence: {_text(licence)}." if licence else "The manifest names no licence."
    return [*lines, "", f"{terms} The terms of the model and of the data set bind whoever uses its features."]


def index(stores: Mapping[str, Store]) -> list[dict[str, Any]]:
    """One row per store for `stores.json`."""
    return [
        {
            "path": name,
            "split": (store.manifest.get("dataset") or {}).get("split"),
            "model": store.manifest.get("model"),
            "dtype": store.dtype,
            "records": len(store),
            "bytes": store_bytes(store),
            "fingerprint": store.fingerprint,
        }
        for name, store in stores.items()
    ]


def store_bytes(store: Store) -> int:
    """Bytes of all of a store's files."""
    return sum(size_of(store.path / name) or 0 for name in walk(store.path))


def _licence(facts: Mapping[str, Any]) -> str | None:
    for group in (facts, facts.get("origin"), facts.get("recipe")):
        for key in ("licence", "license"):
            told = group.get(key) if isinstance(group, Mapping) else None
            if isinstance(told, str) and told:
                return told
    return None


def _dataset(facts: Mapping[str, Any], key: str) -> str:
    told = facts.get("dataset")
    value = told.get(key) if isinstance(told, Mapping) else None
    return _text(value) if value else "unknown"


def _text(value: object) -> str:
    """A manifest's value on one line, unable to end a table's cell, a tag or a code span."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    flat = " ".join(text.split())[:200]
    return "".join(f"\\{c}" if c in "|<>" else "'" if c == "`" else c for c in flat)
