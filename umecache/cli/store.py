"""`umecache store`: look after feature stores.

    umecache store ls
    umecache store info vqa-v2/bert-3f9a1c02/val
    umecache store verify stores/vqa-v2/bert-3f9a1c02/val --sample 5%
    umecache store repair vqa-v2/bert-3f9a1c02/val
    umecache store diff A B
    umecache store convert A B --format hdf5

push, pull and card are in sharing.py, gc in gc.py, import in importing.py. A store is named by its folder, or by its
path below UMECACHE_HOME/stores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umecache.cli import completing, importing, sharing
from umecache.cli import gc as collecting
from umecache.cli.finding import StoreArgument, find_store, size_words
from umecache.cli.output import emit, reporter
from umecache.errors import UsageError
from umecache.home import homes, stores_homes

if TYPE_CHECKING:
    from umecache.stores.verify import Verification

app = typer.Typer(help="List, check, repair, compare, convert and share feature stores.", no_args_is_help=True)
app.command()(sharing.push)
app.command()(sharing.pull)
app.command()(sharing.card)
app.command()(collecting.gc)
app.command(name="import")(importing.import_)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]

SHOWN_IDS = 10  # of a damaged shard, in words; --json names them all


@app.command()
def ls(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Where to look; by default UMECACHE_HOME/stores, every home.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List stores, finished and unfinished, with size, age, owner and who uses them.

    Example:

        umecache store ls /data/stores
    """
    from umecache.sharing.usage import runs_by_fingerprint
    from umecache.stores.catalog import find_stores, info
    from umecache.stores.errors import StoreError

    roots = stores_homes() if folder is None else (folder,)
    if folder is not None and not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", next="umecache store ls lists UMECACHE_HOME/stores.")
    rows: list[dict[str, Any]] = []
    runs = runs_by_fingerprint(home / "runs" for home in homes())
    for home, path in ((root, path) for root in roots for path in find_stores(root)):
        try:
            facts = info(path)
            used = [str(run) for run in runs.get(facts.get("fingerprint") or "", ())]
            rows.append({**facts, "home": str(home), "runs": used})
        except StoreError as error:
            # One broken store must not hide the others.
            rows.append(
                {
                    "path": str(path),
                    "home": str(home),
                    "complete": False,
                    "bytes": None,
                    "records": None,
                    "error": error.as_json(),
                }
            )
    document = {"folder": str(roots[0]), "folders": [str(root) for root in roots], "stores": rows}
    emit(document, json=json, words=lambda: _list_words(roots, rows))


@app.command()
def info(store: StoreArgument, json: Json = False) -> None:
    """Tell what a store holds: model, recipe, inputs, dtype, size, failures.

    Example:

        umecache store info vqa-v2/bert-3f9a1c02/val
    """
    from umecache.stores.catalog import info as read_info

    facts = read_info(find_store(store))
    emit(facts, json=json, words=lambda: _info_words(facts))


@app.command()
def verify(
    store: StoreArgument,
    sample: Annotated[
        str | None, typer.Option("--sample", help="Check only a random share of the records, such as 5%.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.0, help="Stop after this time; implies --sample 100%.")
    ] = None,
    json: Json = False,
) -> None:
    """Check every byte of a store; exit status 1 where damage is found.

    Example:

        umecache store verify vqa-v2/bert-3f9a1c02/val --sample 5%
    """
    from umecache.stores.catalog import info as read_info
    from umecache.stores.errors import StoreDamaged
    from umecache.stores.verify import verify as check

    share = _share(sample) if sample is not None else 1.0 if seconds is not None else None
    path = find_store(store)
    try:
        total = read_info(path)["bytes"] * (share or 1)
    except StoreDamaged:  # that is what verify is going to tell
        total = None
    with reporter(json).task(f"verify {path.name}", total, "bytes") as task:
        found = check(path, sample=share, seconds=seconds, tick=task.advance)
    document = {
        "ok": found.ok,
        "records": found.records,
        "checked": found.checked,
        "damaged": [damage.as_json() for damage in found.damaged],
        "path": found.path,
    }
    emit(document, json=json, words=lambda: _verify_words(found, share))
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def repair(
    store: StoreArgument,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Data folder or name; by default the one the manifest names.", autocompletion=completing.data
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="The encoder's checkpoint, where it is no longer where it was.")
    ] = None,
    devices: Annotated[str, typer.Option("--devices", help="auto, cpu, or a GPU's number.")] = "auto",
    reopen: Annotated[
        bool,
        typer.Option("--reopen", help="Only open the damaged shards again; the extract command that made it goes on."),
    ] = False,
    json: Json = False,
) -> None:
    """Find damaged shards and extract just those again, with the model and the inputs that the manifest names.

    Example:

        umecache store repair vqa-v2/bert-3f9a1c02/val

    Encoder and inputs are compared with the store's own facts before anything is changed.
    """
    path = find_store(store)
    if reopen:
        _reopen(path, json=json)
        return
    from umecache.cli.stopping import sigterm_stops
    from umecache.extraction.devices import here, parse_devices
    from umecache.extraction.repair import repair as run

    with sigterm_stops(why="Finished shards are safe.", next="run the same command again to go on"):
        repaired = run(path, data=data, weights=weights, place=here(parse_devices(devices)[0]), reporter=reporter(json))
    document = {
        "path": str(path),
        "sound": repaired.sound,
        "shards": list(repaired.shards),
        "records": repaired.records,
        "same_bytes": repaired.same_bytes,
    }

    def words() -> None:
        if repaired.sound:
            typer.echo(f"{path}: sound, nothing to repair")
            return
        shards = ", ".join(map(str, repaired.shards)) or "none, only lists and metadata"
        typer.echo(f"{path}: sound again; written anew: shards {shards} ({repaired.records:,} records)")
        if repaired.same_bytes:
            typer.echo("It is byte for byte what it was.")
        else:
            typer.echo(
                "Its bytes are not those it was sealed with: another machine, other versions, or its list was damaged."
            )

    emit(document, json=json, words=words)


def _reopen(path: Path, *, json: bool) -> None:
    from umecache.stores.repair import reopen
    from umecache.stores.verify import verify as check

    found = check(path)
    if not found.ok:
        reopen(path, found.shards)

    def words() -> None:
        if found.ok:
            typer.echo(f"{path}: sound, nothing to repair")
            return
        shards = ", ".join(map(str, found.shards)) or "none: only the index is written anew"
        typer.echo(f"{path}: open again, shards to extract: {shards}")
        typer.echo("Next: run the umecache extract command that made it; it does only these.")

    emit(
        {"path": str(path), "sound": found.ok, "shards": found.shards, "reopened": not found.ok}, json=json, words=words
    )


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A store.", autocompletion=completing.store)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another store.", autocompletion=completing.store)],
    json: Json = False,
) -> None:
    """Name the facts in which two stores differ: recipe, inputs, versions, format, values.

    Example:

        umecache store diff vqa-v2/bert-3f9a1c02/val /mnt/other/bert/val
    """
    from umecache.stores.catalog import diff as compare

    paths = find_store(a), find_store(b)
    found = compare(*paths)

    def words() -> None:
        same = "same recipe, same inputs" if found.same else "not the same features"
        typer.echo(f"{paths[0]}\n{paths[1]}\n{'equal' if found.same else 'different'} fingerprints: {same}")
        for line in found.lines:
            typer.echo(f"  {line}")
        if not found.lines:
            typer.echo("  no difference")

    emit({**found.as_json(), "a": str(paths[0]), "b": str(paths[1])}, json=json, words=words)


@app.command()
def convert(
    store: StoreArgument,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The new store's folder.")],
    format: Annotated[str | None, typer.Option("--format", help="zarr or hdf5; by default as it is.")] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float16, float32, bfloat16 or int8; by default as it is.")
    ] = None,
    compression: Annotated[
        str | None, typer.Option("--compression", help="zstd (zarr) or gzip (hdf5); by default none: read by mapping.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a store anew in another format, dtype or compression. With the same dtype nothing is lost.

    Example:

        umecache store convert vqa-v2/bert-3f9a1c02/val /data/bert-hdf5/val --format hdf5
    """
    from umecache.stores.catalog import info as read_info
    from umecache.stores.convert import convert as write

    path = find_store(store)
    total = read_info(path).get("distinct")
    with reporter(json).task(f"convert {path.name}", total, "records") as task:
        facts = write(path, target, format=format, dtype=dtype, compression=compression, tick=task.advance)

    def words() -> None:
        how = "nothing is lost" if facts["lossless"] else f"values are now {facts['dtype']}: another recipe"
        typer.echo(f"{facts['path']}: {facts['format']}, {facts['dtype']}, {size_words(facts['bytes'])}; {how}")

    emit(facts, json=json, words=words)


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(
            f"--sample {text!r} is no share.", why="It is more than 0 and at most 100%.", next="--sample 5%"
        )
    return share


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"


def _state(facts: Mapping[str, Any]) -> str:
    if "error" in facts:
        return str(facts["error"]["what"])
    if facts["complete"]:
        failed = len(facts.get("failures") or ())
        return f"complete, {failed} failed" if failed else "complete"
    return f"not complete: {facts.get('shards_done', '?')} of {facts.get('shards', '?')} shards"


def _list_words(roots: Sequence[Path], rows: list[dict[str, Any]]) -> None:
    if not rows:
        typer.echo(f"No stores below {', '.join(map(str, roots))}. Next: umecache extract --model bert")
    for root in roots:
        mine = [facts for facts in rows if facts["home"] == str(root)]
        if len(roots) > 1 and mine:
            typer.echo(f"{root}:")
        for facts in mine:
            path = Path(facts["path"])
            name = path.relative_to(root) if path.is_relative_to(root) and path != root else path
            size = f"{_count(facts['records'])} records, {size_words(facts['bytes'])}"
            kind = " ".join(str(facts.get(key) or "") for key in ("format", "dtype")).strip()
            typer.echo(f"{name}  {size}, {kind + ', ' if kind else ''}{_state(facts)}{_standing(facts)}")


def _standing(facts: Mapping[str, Any]) -> str:
    """Age, owner and users of a store."""
    parts = []
    if facts.get("created"):
        days = (datetime.now(UTC) - datetime.fromisoformat(facts["created"])).days
        parts.append("new today" if days < 1 else f"{days} day{'s' * (days > 1)} old")
    if facts.get("owner"):
        parts.append(f"of {facts['owner']}")
    if facts.get("workers"):
        parts.append("being written by " + ", ".join(f"{w['host']}:{w['pid']}" for w in facts["workers"][:3]))
    if facts.get("runs"):
        parts.append(f"used by {len(facts['runs'])} run{'s' * (len(facts['runs']) > 1)}")
    return "".join(f", {part}" for part in parts)


def _info_words(facts: Mapping[str, Any]) -> None:
    failures = facts.get("failures") or []
    rows: list[tuple[str, Any]] = [
        ("path", facts["path"]),
        ("state", _state(facts)),
        ("model", facts.get("model")),
        ("modality", facts.get("modality")),
        ("records", f"{_count(facts['records'])} ids, {_count(facts.get('distinct'))} stored"),
        ("tokens", f"{_count(facts.get('tokens'))} of width {facts.get('dim')}"),
        ("stored as", " ".join(str(facts[key]) for key in ("format", "dtype", "compression") if facts.get(key))),
        ("size", size_words(facts["bytes"])),
        ("created", facts.get("created")),
        ("fingerprint", facts.get("fingerprint")),
    ]
    for group in ("dataset", "grid", "recipe", "origin"):
        value = facts.get(group)
        rows += [(f"{group}.{key}", item) for key, item in value.items()] if isinstance(value, dict) else []
    rows += [("failed", f"{row['id']}: {row['reason']}") for row in failures[:SHOWN_IDS]]
    if len(failures) > SHOWN_IDS:
        rows.append(("failed", f"... {len(failures) - SHOWN_IDS} more; --json lists them"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        if value is not None:
            typer.echo(f"{name:<{width}}  {value}")


def _verify_words(found: Verification, share: float | None) -> None:
    how = "every byte" if share is None else f"a sample of {found.checked:,} records"
    if found.ok:
        typer.echo(f"{found.path}: sound, {found.records:,} records ({how} checked)")
        return
    typer.echo(f"{found.path}: DAMAGED ({how} checked)")
    for damage in found.damaged:
        ids = ", ".join(str(name) for name in damage.ids[:SHOWN_IDS])
        more = f", ... {len(damage.ids) - SHOWN_IDS} more" if len(damage.ids) > SHOWN_IDS else ""
        where = "" if damage.shard is None else f"shard {damage.shard}: "
        typer.echo(f"  {where}{damage.reason}" + (f" Damaged ids: {ids}{more}" if ids else ""))
    typer.echo(f"Next: umecache store repair {found.path}")
