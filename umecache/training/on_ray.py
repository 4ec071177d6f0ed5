"""A comparison's cells spread over a Ray cluster that is there already: `umecache compare --ray HOST:PORT`.

    with cluster("auto"):
        readings = spread(config, job, folder, reporter)     # every pass is trained, and kept in `folder`

Each cell (of one pair of stores: each method) is a Ray task that runs the same code as without Ray and leaves what it
trained as a finished checkpoint in the run's folder, on a disk that all nodes share. The process that was started then
goes on as one that was stopped after its last pass would: so the document is the same, a task whose node dies goes on
elsewhere from its checkpoint, and a job that is stopped does not train finished cells again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from umecache.encoders.base import Json
from umecache.errors import DataError, JobFailed, MissingExtra, UmecacheError, UsageError
from umecache.extraction.devices import parse_devices
from umecache.reporting import Reporter, Silent
from umecache.training.checkpoint import Checkpoints
from umecache.training.config import CompareConfig
from umecache.training.folders import JOB, NewFolder
from umecache.training.grid import find_cell, groups, pairs, pass_name, train_group
from umecache.training.job import Material, Reading
from umecache.training.model import share_arguments
from umecache.training.questions import load_questions
from umecache.training.reuse import Kept
from umecache.training.runs import versions

CONNECT_SECONDS = 60.0  # for the cluster to answer
NODE_SECONDS = 300.0  # for a node to start a process and look at its disks
FILE_SECONDS = 120.0  # for a file that another node wrote to be seen on a network file system
RETRIES = 3  # of a task whose process or node died


@dataclass(frozen=True, slots=True)
class Errand:
    """What a process on another node has to know.

    Attributes:
        config: with the order decided.
        folder: where checkpoints go.
        device: the type that heads are trained on.
        stores: cell -> what its stores are (`Source.facts`).
        current: the folder that relative paths start from.
        environment: what tells where homes and caches are.
    """

    config: CompareConfig
    folder: Path
    seconds: float
    device: str
    stores: tuple[Any, ...]
    data: Path
    current: Path
    environment: Mapping[str, str]


@contextlib.contextmanager
def cluster(address: str) -> Iterator[None]:
    """Connected to a running cluster; one that this process is connected to already is used as it is.

    Args:
        address: HOST:PORT of its head node, or "auto": that of this machine.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: no cluster answers there.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra("ray", "ray", purpose="--ray")
    import ray

    if ray.is_initialized():
        yield
        return
    _check_address(address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error)) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray takes it for itself
    try:
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # where Ray says that a node died; standard output is the document's
            yield
    finally:
        ray.shutdown()


def spread(
    config: CompareConfig, job: Mapping[str, Any], data: Path, folder: NewFolder, reporter: Reporter
) -> dict[int, Reading]:
    """Train what is not finished, each pass on some node; cell -> what was read there.

    Args:
        config: with the order decided.
        job: its facts.
        data: the data folder.
        folder: the run's, which every node must see.

    Raises:
        UmecacheError: a node lacks a store or has other versions; what a task raised; a process that died too often.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    assert folder.checkpoints is not None
    errand = Errand(
        config=config,
        folder=folder.checkpoints,
        seconds=60 * config.checkpoint_minutes or float("inf"),
        device=job["device"],
        stores=tuple(job["stores"]),
        data=data.absolute(),
        current=Path.cwd(),
        environment={name: value for name, value in os.environ.items() if name.startswith("UMECACHE_")},
    )
    names = _check_nodes(errand)
    reporter.say(f"ray: {len(names)} {'node' if len(names) == 1 else 'nodes'}: {', '.join(names.values())}")
    checkpoints = Checkpoints(errand.folder, always=True)
    passes = [(number, group) for number in range(len(pairs(config))) for group in range(len(groups(config)))]
    open_passes = [each for each in passes if not checkpoints.of(pass_name("heads", config, *each)).finished]
    if len(open_passes) < len(passes):
        reporter.say(f"{len(passes) - len(open_passes)} of {len(passes)} passes are finished already")
    task = ray.remote(_train).options(
        **_resources(errand), max_retries=RETRIES, retry_exceptions=False, scheduling_strategy="SPREAD"
    )
    waiting = {task.remote(errand, *each): each for each in open_passes}
    readings: dict[int, Reading] = {}
    with reporter.task("training", len(waiting), "passes") as progress:
        while waiting:
            ready = _first(waiting)
            number, group = waiting.pop(ready)
            try:
                node, kept, reading = ray.get(ready)
            except RayTaskError as error:
                raise (error.cause if isinstance(error.cause, UmecacheError) else error) from None
            except RayError as error:
                raise JobFailed(
                    f"The pass {pass_name('heads', config, number, group)} died {RETRIES + 1} times.",
                    why=f"{type(error).__name__}: {_first_line(error)}",
                    next="the Ray logs of that node; then the same command goes on",
                ) from error
            if kept:
                _wait_for(errand.folder / kept)
            readings[number] = _sum(readings.get(number), reading)
            progress.advance(1)
            reporter.say(f"{_said(config, number, group)}: trained on {names.get(node, node)}")
    return readings


def _train(errand: Errand, number: int, group: int) -> tuple[str, str | None, Reading]:
    """In a process on some node: train one pass; the node, the checkpoint's name (None: all heads were kept), and what
    was read.
    """
    import ray

    with _as_there(errand):
        config = errand.config
        device = torch.device(parse_devices(config.device)[0])
        if device.type != errand.device:
            raise JobFailed(f"{socket.gethostname()} would train on {device.type}, not on {errand.device}.")
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        questions = load_questions(config)
        sources = find_cell(config, questions, number, Silent())
        if [source.facts()["stores"] for source in sources] != errand.stores[number]:
            raise DataError(
                f"{socket.gethostname()} has other stores under the same names.",
                next="the nodes must share the stores' disk",
            )
        checkpoints = Checkpoints(errand.folder, errand.seconds, always=True)
        material = Material(questions, sources, config, device, checkpoints)
        kept = Kept(Path(config.out) if config.update and config.out else None)
        arguments = share_arguments(config.methods, config.method_args)
        train_group(material, config, arguments, number, group, Silent(), kept)
        keeper = checkpoints.of(pass_name("heads", config, number, group))
        name = keeper.path.name if keeper.path is not None and keeper.finished else None
        return ray.get_runtime_context().get_node_id(), name, material.reading()


def _look(errand: Errand) -> tuple[Mapping[str, Json], list[str]]:
    """In a process on a node: what it computes with, and which folders it lacks."""
    with _as_there(errand):
        paths = [errand.data, errand.folder / JOB]
        for cell in errand.stores:
            paths += [Path(each["path"]) for stores in cell for each in stores.values() if "://" not in each["path"]]
        return versions(), [str(path) for path in dict.fromkeys(paths) if not path.exists()]


@contextlib.contextmanager
def _as_there(errand: Errand) -> Iterator[None]:
    """Names and relative paths mean what they mean where the job was started. The process is the job's own."""
    os.environ.update(errand.environment)
    with contextlib.chdir(errand.current) if errand.current.is_dir() else contextlib.nullcontext():
        yield


def _check_nodes(errand: Errand) -> dict[str, str]:
    """Node -> its name, of those that can take part; each has looked at its disks and told its versions."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = _resources(errand)
    wanted, amount = next((("GPU", n) if "num_gpus" in asked else ("CPU", n)) for n in asked.values())
    alive = [node for node in ray.nodes() if node["Alive"]]
    able = [node for node in alive if node["Resources"].get(wanted, 0) >= amount]
    if not able:
        raise UsageError(
            f"No node of the cluster has {amount} {wanted}.",
            why=f"It has {len(alive)} nodes.",
            next="--threads N, or --devices cpu" if wanted == "GPU" else "--threads 1",
        )
    names = {node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})" for node in able}
    looks = {}
    for node in able:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        look = ray.remote(_look).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        looks[look.remote(errand)] = names[node["NodeID"]]
    _, late = ray.wait(list(looks), num_returns=len(looks), timeout=NODE_SECONDS)
    if late:
        raise JobFailed(f"The node {looks[late[0]]} did not answer in {NODE_SECONDS:.0f} s.", next="ray status")
    for look, name in looks.items():
        try:
            found, lacking = ray.get(look)
        except RayError as error:
            raise JobFailed(
                f"The node {name} can't take part.", why=_first_line(error), next="install the same umecache there"
            ) from error
        if found != versions():
            raise UsageError(
                f"The node {name} computes with other versions.",
                why=f"There {_listed(found)}; here {_listed(versions())}.",
                next="the same versions on every node: numbers depend on them",
            )
        if lacking:
            raise UsageError(
                f"The node {name} lacks {lacking[0]}" + (f" and {len(lacking) - 1} more." if lacking[1:] else "."),
                why="Every node reads the data and the stores, and writes what it trained to the run's folder.",
                next="put them, and --out, on a disk that all nodes share",
            )
    return names


def _resources(errand: Errand) -> dict[str, int]:
    """What a task asks of a node."""
    return {"num_gpus": 1} if errand.device == "cuda" else {"num_cpus": errand.config.threads or 1}


def _check_address(address: str) -> None:
    """Whether a cluster answers; Ray itself tries for minutes."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError(f"--ray {address!r}: give HOST:PORT of the head node, or auto.", next="ray status")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise _unreachable(address, str(error)) from error
        command += ["--address", address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CONNECT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise _unreachable(address, f"No answer in {CONNECT_SECONDS:.0f} s.") from None
    if done.returncode:
        raise _unreachable(address, "No running cluster is known here." if address == "auto" else "It is no Ray head.")


def _unreachable(address: str, why: str) -> UsageError:
    return UsageError(
        f"No Ray cluster answers at {address}.",
        why=f"{(why.strip() or 'It said nothing').splitlines()[0].rstrip('.')}.",
        next="ray start --head, then ray start --address HOST:PORT on the other nodes; ray status",
    )


def _first(waiting: Iterable[Any]) -> Any:
    """The first of some tasks that is over. Between two looks, Ctrl-C and SIGTERM are heard."""
    import ray

    while not (found := ray.wait(list(waiting), num_returns=1, timeout=0.5)[0]):
        pass
    return found[0]


def _wait_for(file: Path) -> None:
    """Until a file is seen here; listing its folder makes a network file system look again."""
    until = time.monotonic() + FILE_SECONDS
    while file.name not in os.listdir(file.parent):  # noqa: PTH208 - no more than the names
        if time.monotonic() > until:
            raise JobFailed(
                f"{file} was written on another node and is not to be seen here.",
                next="put --out on a disk that all nodes share",
            )
        time.sleep(0.2)


def _sum(one: Reading | None, other: Reading) -> Reading:
    """Of several passes over one pair of stores: where features were the first time, and all bytes."""
    if one is None:
        return other
    waited = round(one["seconds_waited"] + other["seconds_waited"], 3)
    return {**one, "bytes_read": one["bytes_read"] + other["bytes_read"], "seconds_waited": waited}


def _said(config: CompareConfig, number: int, group: int) -> str:
    """A pass in words."""
    stores = " + ".join(name for name in pairs(config)[number] if name)
    methods = ", ".join(groups(config)[group])
    return f"{stores or 'the stores'}: {methods}" if len(groups(config)) > 1 else stores or methods


def _listed(found: Mapping[str, Json]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
