"""The hub, and tokens: that they are there, never what they are."""

from __future__ import annotations

import os
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from umecache.doctor.finding import Finding

SECONDS = 5.0
HUB = "https://huggingface.co"
_YES = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables
_IN_VARIABLES = {
    "Hugging Face": ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
    "S3": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"),
    "Google Cloud": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "Weights & Biases": ("WANDB_API_KEY",),
}


def hub(environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Whether the hub answers, unless it is not to be asked."""
    told = os.environ if environment is None else environment
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if told.get(name, "").upper() in _YES:
            yield Finding("hub", "PASS", f"not asked: {name} is set; models come from the cache or --weights")
            return
    url = told.get("HF_ENDPOINT", HUB)
    remedy = "export HF_HUB_OFFLINE=1 to spare the waiting; models by --weights PATH, or HF_ENDPOINT for a mirror"
    if not url.startswith(("http://", "https://")):
        yield Finding("hub", "WARN", f"HF_ENDPOINT is no web address: {url}", "unset HF_ENDPOINT")
        return
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            yield Finding("hub", "WARN", f"{url} answers with status {error.code}", remedy)
            return
    except OSError as error:
        why = getattr(error, "reason", error)
        yield Finding("hub", "WARN", f"{url} can't be reached: {why}", remedy)
        return
    yield Finding("hub", "PASS", f"{url} answers")


def tokens(environment: Mapping[str, str] | None = None, user: Path | None = None) -> Iterator[Finding]:
    """Where tokens lie, and whether others can read them.

    Args:
        user: the user's own folder.
    """
    told = os.environ if environment is None else environment
    own = Path.home() if user is None else user
    there = [f"{who} ({name})" for who, names in _IN_VARIABLES.items() for name in names if told.get(name)]
    cache = Path(told.get("HF_HOME") or own / ".cache" / "huggingface")
    files = {
        "Hugging Face": Path(told.get("HF_TOKEN_PATH") or cache / "token"),
        "S3": Path(told.get("AWS_SHARED_CREDENTIALS_FILE") or own / ".aws" / "credentials"),
    }
    for who, file in files.items():
        try:
            mode = file.stat().st_mode
        except OSError:
            continue
        there.append(f"{who} ({file})")
        if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
            yield Finding("tokens", "WARN", f"others can read {file}", f"chmod 600 {file}")
    listed = ", ".join(there) or "none; gated models and uploads need one (hf auth login)"
    yield Finding("tokens", "PASS", listed)
