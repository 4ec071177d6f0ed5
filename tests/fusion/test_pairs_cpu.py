"""The compiled kernel: accuracy of its tanh, threads, how it is compiled, and what happens where it can't be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from umecache.fusion import pairs_cpu
from umecache.fusion.pairs import PAIRS, pair_pool

needs_kernel = pytest.mark.skipif(not pairs_cpu.status().ready, reason=pairs_cpu.status().reason)


@pytest.fixture
def threads() -> Iterator[None]:
    """Leaves torch's number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_kernel
def test_tanh_is_exact_to_float32() -> None:
    """One token: its only pair is (0, 0), so f is tanh(A + B + C^2) of each of D numbers."""
    x = torch.cat((torch.linspace(-12, 12, 40_001), torch.tensor([0.0, 1e-30, -1e-3, 1e-3, 1e30, -1e30])))
    zero = torch.zeros(1, 1, len(x))
    f = pair_pool(x[None, None], zero, zero, torch.ones(1, 1, dtype=torch.bool), impl="cpu")[0]
    exact = torch.tanh(x.double())
    assert (f.double() - exact).abs().max() < 6e-7
    near = (x.abs() < 1e-2) & (x != 0)
    assert ((f.double() - exact)[near] / exact[near]).abs().max() < 1e-6, "relative, where values are small"


@needs_kernel
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pairs", PAIRS)
def test_any_number_of_threads_same_bits(threads: None, pairs: str, weighted: bool) -> None:
    """A batch of one is cut within the sample, one of sixteen by samples: each the same bits as one thread's."""
    groups = [0] * 11 + [1] * 30
    for batch in (1, 16):
        a, b, c = (torch.randn(batch, 41, 24) for _ in range(3))
        mask, w, bias = torch.rand(batch, 41) > 0.2, torch.randn(24), torch.randn(1)
        results: list[list[Tensor]] = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaves = [x.clone().requires_grad_() for x in (a, b, c, w, bias)]
            chosen = {"w_D": leaves[3], "bias": leaves[4]} if weighted else {}
            f_BD = pair_pool(*leaves[:3], mask, pairs=pairs, groups_N=groups, impl="cpu", **chosen)
            f_BD.square().sum().backward()
            results.append([f_BD, *(x.grad for x in leaves if x.grad is not None)])
        for other in results[1:]:
            assert len(other) == (6 if weighted else 4)
            assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


@needs_kernel
def test_views_and_strides() -> None:
    """chunk() and transposed inputs are no contiguous tensors."""
    x = torch.randn(2, 9, 48)
    mask = torch.ones(9, 2, dtype=torch.bool).T
    parts = x.chunk(3, dim=-1)
    plain = pair_pool(*(p.contiguous() for p in parts), mask.contiguous(), impl="cpu")
    assert torch.equal(pair_pool(*parts, mask, impl="cpu"), plain)
    turned = (p.transpose(1, 2).contiguous().transpose(1, 2) for p in parts)
    assert torch.equal(pair_pool(*turned, mask, impl="cpu"), plain)


@needs_kernel
def test_denormals_survive() -> None:
    """-ffast-math in a shared library would switch them off for the whole process."""
    assert float(torch.tensor([1e-40]) * 1.0) > 0


@needs_kernel
def test_kept_in_the_home_and_found_again(private_home: Path) -> None:
    cc = pairs_cpu.compiler()
    assert cc is not None
    folder = private_home / "kernels" / pairs_cpu.kernel_hash(cc)
    made = pairs_cpu.compile_kernel(folder, cc)
    written = made.stat().st_mtime_ns
    assert pairs_cpu.compile_kernel(folder, ["/bin/false"]) == made, "taken as it is, nothing compiled"
    assert made.stat().st_mtime_ns == written
    assert [path.name for path in folder.iterdir()] == ["pairs_cpu.so"], "no temporary file stays"


@needs_kernel
def test_several_may_compile_at_once(tmp_path: Path) -> None:
    cc = pairs_cpu.compiler()
    assert cc is not None
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: pairs_cpu.compile_kernel(tmp_path, cc), range(2)))
    assert {path.name for path in made} == {"pairs_cpu.so"} == {path.name for path in tmp_path.iterdir()}


def test_a_strangers_kernel_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs_cpu.so").write_bytes(b"somebody else's")
    monkeypatch.setattr(pairs_cpu, "_ours", lambda path: False)
    fake = _script(tmp_path / "cc", 'while [ "$1" != -o ]; do shift; done; echo mine > "$2"')
    assert pairs_cpu.compile_kernel(tmp_path, [str(fake)]).read_text() == "mine\n"


def test_flags_are_tried_in_turn(tmp_path: Path) -> None:
    """A compiler that knows neither -march=native nor OpenMP still gets its chance."""
    fake = _script(
        tmp_path / "cc",
        'for a; do case $a in -march=*|-mcpu=*|-fopenmp) echo "unknown $a" >&2; exit 1;; esac; done\n'
        'while [ "$1" != -o ]; do shift; done; echo plain > "$2"',
    )
    assert pairs_cpu.compile_kernel(tmp_path / "k", [str(fake)]).read_text() == "plain\n"


def test_a_compiler_that_fails_is_reported(tmp_path: Path) -> None:
    fake = _script(tmp_path / "cc", "echo 'cc1: out of luck' >&2; exit 1")
    with pytest.raises(RuntimeError, match="cc1: out of luck"):
        pairs_cpu.compile_kernel(tmp_path / "k", [str(fake)])
    assert list((tmp_path / "k").iterdir()) == []


def test_the_hash_follows_what_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cc = _script(tmp_path / "cc", "exit 1")
    first = pairs_cpu.kernel_hash([str(cc)])
    assert pairs_cpu.kernel_hash([str(cc)]) == first
    assert pairs_cpu.kernel_hash([str(cc), "-m32"]) != first
    monkeypatch.setattr(pairs_cpu, "_processor", lambda: "another machine")
    assert pairs_cpu.kernel_hash([str(cc)]) != first


JUNK = 'while [ "$1" != -o ]; do shift; done; echo junk > "$2"'


@pytest.mark.parametrize(("script", "reason"), [("exit 1", "could not compile"), (JUNK, "pairs_cpu.so")])
def test_without_a_working_compiler_the_tiled_path_runs(tmp_path: Path, script: str, reason: str) -> None:
    fake = _script(tmp_path / "cc", script)
    code = (
        "import torch\n"
        "from umecache.fusion.pairs import implementation, pair_pool\n"
        "print(*implementation(torch.device('cpu'), torch.float32))\n"
        "print(pair_pool(*torch.ones(3, 1, 2, 4), torch.ones(1, 2, dtype=torch.bool)).tolist())\n"
    )
    environment = {**os.environ, "CC": str(fake), "UMECACHE_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    chosen, values = done.stdout.splitlines()
    assert chosen.startswith("tiled ")
    assert reason in chosen
    assert values.startswith("[[0.995")


def _script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
