"""Model files from the Hugging Face hub, or from its cache when there is no network.

    snapshot = fetch("microsoft/deberta-v3-base", revision=None)
    snapshot.folder, snapshot.commit      # a local folder with config.json, one form of the weights, the tokenizer

One path for hub and local folders: what a repository holds is downloaded, then loaded like any local checkpoint.
`HF_HUB_OFFLINE=1`, `HF_HOME` and `HF_TOKEN` mean what they mean to every other tool.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from umecache.encoders.weights import WEIGHT_FILES
from umecache.errors import UmecacheError, UsageError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",  # SentencePiece: spm.model, spiece.model, tokenizer.model, sentencepiece.bpe.model
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository's files at one commit."""

    folder: Path
    commit: str


def choose_files(names: Collection[str]) -> list[str]:
    """Of a repository's files, those that an encoder needs: configuration, tokenizer, one form of the weights.

    Only the top folder counts; safetensors are preferred to `.bin`.
    """
    plain = ("config.json", "preprocessor_config.json")  # the second: how an encoder of sounds wants them
    wanted = [n for n in sorted(names) if n in plain or any(fnmatch.fnmatch(n, p) for p in TOKENIZER_FILES)]
    weights = next((name for name in WEIGHT_FILES if name in names), None)
    if weights is not None:
        wanted.append(weights)
        if weights.endswith(".index.json"):
            stem, suffix = weights.removesuffix(".index.json").rsplit(".", 1)
            wanted += sorted(n for n in names if fnmatch.fnmatch(n, f"{stem}-*-of-*.{suffix}"))
    return [name for name in wanted if "/" not in name]


def fetch(
    repo: str, revision: str | None = None, *, cache: Path | None = None, endpoint: str | None = None
) -> Snapshot:
    """Download what an encoder needs of `repo`, or take it from the cache.

    Args:
        revision: a commit, tag or branch; None is the newest of the default branch.
        cache: the hub's cache folder, None for its own.
        endpoint: another hub.

    Raises:
        UsageError: no such repository or revision, or it needs an account.
        UmecacheError: the network can't be reached (or is off) and the cache lacks it.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    cached = _cached(repo, revision, cache)
    if cached is not None and cached.commit == revision:
        return cached  # a commit never changes: no need to ask
    if constants.HF_HUB_OFFLINE:
        if cached is None:
            raise _unreachable(repo, "HF_HUB_OFFLINE is set.")
        return cached
    try:
        info = HfApi(endpoint=endpoint).model_info(repo, revision=revision)
        names = choose_files([sibling.rfilename for sibling in info.siblings or ()])
        # By the name asked for, not by info.sha: only then does the cache know it when the network is gone.
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=names,
            cache_dir=cache,
            endpoint=endpoint,
            library_name="umecache",
        )
    except GatedRepoError as error:
        raise UsageError(
            f"{repo} is gated: its licence has to be accepted on its page first.",
            why=str(error).splitlines()[0],
            next="hf auth login",
        ) from None
    except RevisionNotFoundError:
        raise UsageError(f"{repo} has no revision {revision!r}.", next=f"hf:{repo} takes the newest") from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"The hub has no repository {repo} (or it is private).",
            next="umecache models (for a private one: hf auth login)",
        ) from None
    except Exception as error:  # what a failed connection raises depends on the hub library's version
        if cached is not None:
            return cached
        raise _unreachable(repo, f"{type(error).__name__}: {error}".splitlines()[0]) from None
    return Snapshot(Path(folder), Path(folder).name)  # .../snapshots/COMMIT


def _cached(repo: str, revision: str | None, cache: Path | None) -> Snapshot | None:
    """The repository in the hub's cache, if its configuration and weights are all there."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo, "config.json", cache_dir=cache, revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent  # .../snapshots/COMMIT
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        return None
    return Snapshot(folder, folder.name)


def _unreachable(repo: str, reason: str) -> UmecacheError:
    folder = repo.rpartition("/")[2]
    return UmecacheError(
        f"{repo} is not in the local cache, and the hub can't be reached.",
        why=reason,
        next=f"where there is a network: hf download {repo} --local-dir {folder} (older: huggingface-cli download); "
        f"then here, in the same command: --weights {folder}",
    )
