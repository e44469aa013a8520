"""Which version runs, what says so, and the modules and builds around it."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import emulated_cpu
import numpy as np
import paddle
import pytest
from cpu_paths import FORCED_BY, PATHS, paths_of_this_cpu
from numpy_ops import float64, int32, tensor
from op_definitions import layer_norm, rms_norm
from paddlemix_qwenvl_ops import INTERFACE
from ways import PLAIN_ONLY, Way

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.ops import definitions, dispatch, location

ROOT = Path(__file__).parents[2]
NAMES = ("attention", "fp8", "gradients", "int4", "linear", "norm", "padding", "rotary", "sample")
EMULATED = ("attention", "fp8", "int4", "linear", "norm", "rotary", "sample")


def python(*arguments, **environment):
    """A fresh interpreter that finds what this one finds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=ROOT)


def public_functions(folder):
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield node.name


def test_every_definition_is_an_operation():
    """Public functions of `definitions`, and nothing else, are in `ops` and in its status."""
    names = sorted(public_functions(Path(definitions.__file__).parent))
    assert sorted(definitions.__all__) == sorted(ops.status()) == names
    assert set(ops.__all__) == {*names, "status", "activation_dtype"}
    for name in names:
        definition, operation = getattr(definitions, name), getattr(ops, name)
        assert inspect.unwrap(operation) is definition and operation.__doc__


def test_every_kernel_runs_its_operation():
    kernels = set()
    if not PLAIN_ONLY:
        import paddlemix_qwenvl_ops as library

        kernels = {name for name in definitions.__all__ if f"qwenvl_{name}" in library.OPERATIONS}
        kernels |= {"embedding_int8", "linear_fp8", "linear_int8", "linear_int8_swiglu"}  # by those of other weights
    assert set(dispatch.CPU) == kernels
    assert {name for name, way in ops.status().items() if way.startswith("compiled for ")} == kernels


def test_plain_paddle_on_demand():
    program = "from paddlemix_qwenvl import ops; print(ops.status()['linear'], ops.linear is ops.definitions.linear)"
    done = python("-c", program, QWENVL_OPS="reference")
    assert done.stdout.split("\n")[0] == "plain Paddle (QWENVL_OPS=reference) True", done.stderr


def test_compiled_on_demand_says_what_to_do(tmp_path):
    program = "import sys; sys.modules['paddlemix_qwenvl_ops'] = None\nfrom paddlemix_qwenvl import ops"
    done = python("-c", program, QWENVL_OPS="compiled")
    assert "OpsError: paddlemix_qwenvl_ops is not built" in done.stderr
    assert "python setup.py install" in done.stderr and "PYTHONPATH" in done.stderr


KERNELS = {*definitions.__all__, "add_bias", "add_layer_norm", "add_rms_norm", "narrow_qkv_attention"}
FULL = "HAS_CUDA = False\nrun = set_threads = print\nINTERFACE = {}\nOPERATIONS = {}\n"


@pytest.mark.parametrize(
    "library, reason",
    [
        ("run = None\n", ""),
        (FULL.format(INTERFACE - 1, {f"qwenvl_{name}" for name in KERNELS}), ""),
        (
            FULL.format(INTERFACE, {f"qwenvl_{name}" for name in KERNELS - {"write_cache_kv"}}),
            ", without write_cache_kv",
        ),
    ],
    ids=["before it was counted", "another interface", "without an operation"],
)
def test_a_build_of_another_version_is_not_used(tmp_path, library, reason):
    """Neither by a model, which runs on plain Paddle and says why, nor on demand, which says what to do."""
    package = tmp_path / "paddlemix_qwenvl_ops"
    package.mkdir()
    (package / "__init__.py").write_text(library)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom paddlemix_qwenvl import ops\n"
        "print(ops.status()['linear'], ops.cached_attention is ops.definitions.cached_attention)"
    )
    done = python("-c", program, QWENVL_OPS="auto")
    wanted = f"it was built from another version of external_ops{reason}) True"
    assert done.stdout.startswith(f"plain Paddle (paddlemix_qwenvl_ops does not load: {wanted}"), done
    assert "setup.py install` in external_ops" in python("-c", program, QWENVL_OPS="compiled").stderr


def test_the_folder_of_a_build_that_is_not_found_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(location, "CHECKOUT", tmp_path)
    assert location.how_to_find_operations().startswith("run `python setup.py install` in external_ops")
    built = tmp_path / "external_ops" / "build" / "lib.linux" / "paddlemix_qwenvl_ops" / "_ops.so"
    built.parent.mkdir(parents=True)
    built.touch()
    assert f"export PYTHONPATH={built.parents[1]} " in location.how_to_find_operations()


def test_an_unknown_way_is_refused():
    assert "OpsError: QWENVL_OPS is 'fast'" in python("-c", "import paddlemix_qwenvl.ops", QWENVL_OPS="fast").stderr


@pytest.mark.parametrize(
    "module, names", [("fused_ln", ["fused_ln", "fused_rms_norm"]), ("fast_ln", ["fast_ln", "fast_rms_norm"])]
)
def test_modules_that_paddlemix_looks_for(module, names, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "external_ops"))
    layer, rms = (getattr(__import__(module), name) for name in names)
    draws = np.random.default_rng(0)
    x, weight, bias = (tensor(draws.normal(size=shape)) for shape in ((3, 8), (8,), (8,)))
    x.stop_gradient = weight.stop_gradient = False
    y = layer(x, weight, bias, 1e-5)[0]
    np.testing.assert_allclose(float64(y), layer_norm(*map(float64, (x, weight, bias)), 1e-5), atol=1e-5)
    wanted = paddle.grad(paddle.nn.functional.layer_norm(x, 8, weight, bias, 1e-5).square().sum(), [x, weight])
    for found, gradient in zip(paddle.grad(y.square().sum(), [x, weight]), wanted, strict=True):
        np.testing.assert_allclose(float64(found), float64(gradient), atol=1e-4)
    np.testing.assert_allclose(float64(rms(x, weight, 1e-5)[0]), rms_norm(float64(x), float64(weight), 1e-5), atol=1e-5)


def test_paddle_is_found_where_pip_hides_it(tmp_path, monkeypatch):
    """pip builds in a process that sees no package of the environment; a subprocess without its variables does."""
    build = emulated_cpu.setup_of_operations()
    (tmp_path / "paddle.py").write_text("raise ImportError('hidden')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = build.find_paddle()
    assert found.home == Path(paddle.__file__).parent and found.version == paddle.__version__
    assert build.missing("g++", found, None) == []  # this environment's has all that the fast products need
    build.INSTRUCTION_SETS["next"] = ["-mno-such-flag"]
    found.home = tmp_path
    onednn, kernels = build.missing("g++", found, None)
    assert "without oneDNN" in onednn and "without kernels for next, whose flags g++ does not know" in kernels


def test_a_missing_compiler_is_one_clear_line(tmp_path):
    folders = [f"--build-lib={tmp_path}", f"--build-temp={tmp_path}"]
    done = python(str(ROOT / "external_ops" / "setup.py"), "build_ext", *folders, CXX="no-such-compiler")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("No C++ compiler: 'no-such-compiler' was not found. Install g++")


def tokens(x):
    """The same three tokens of one head twice."""
    return [x.reshape([3, 1, 4])] * 2


def caches():
    return [paddle.zeros([2, 1, 5, 4]) for _ in range(2)]


if not PLAIN_ONLY:

    @pytest.mark.parametrize(
        "call, message",
        [
            (lambda c, x: c.rms_norm(x, x[0, :3], 1e-6), r"weight has shape \[3\], expected \[4\]"),
            (lambda c, x: c.linear(x, tensor(np.ones((2, 5)))), r"weight has shape \[2, 5\], expected \[2, 4\]"),
            (lambda c, x: c.linear(x, x.astype("int8")), "a scale goes with an int8 weight or the bits"),
            (lambda c, x: c.qkv_attention(x, x, x, x, 3, 2), "3 query heads do not share 2 kv heads evenly"),
            (lambda c, x: c.embedding(paddle.to_tensor([3]), x), "token 3 is not among 3"),
            (lambda c, x: c.mrope_tables(int32([[0, 1]]), x[0], [3]), "does not share out 4 frequencies"),
            (lambda c, x: c.swiglu(x[:, :3]), "halves its last axis, which has odd size 3"),
            (
                lambda c, x: c.write_cache_kv(*tokens(x), *caches(), int32([0, 9, 10])),
                "token 2 goes to slot 10 of a cache of 2 blocks of 5 slots",
            ),
            (
                lambda c, x: c.varlen_attention(*tokens(x), tokens(x)[0], int32([0, 2]), int32([0, 3])),
                "cu_seqlens_q must rise from 0 to 3",
            ),
        ],
    )
    def test_wrong_arguments_are_named(call, message):
        with pytest.raises((RuntimeError, ValueError, OSError), match=message):
            call(Way("compiled"), tensor(np.ones((3, 4))))

    def test_arguments_by_name():
        """Of operations whose kernel is called as it is, too."""
        qkv, tables, heads = (
            tensor(np.ones((3, 16))),
            [tensor(np.ones((3, 2)))] * 2,
            {"num_kv_heads": 1, "num_heads": 2},
        )
        for found, wanted in zip(
            Way("compiled").qkv_transpose_split(qkv, *tables, **heads),
            definitions.qkv_transpose_split(qkv, *tables, **heads),
            strict=True,
        ):
            assert np.array_equal(found.numpy(), wanted.numpy())

    def kernel_tests(names, **environment) -> str:
        """What the tests of these kernels print on the path that `environment` forces."""
        files = [str(Path(__file__).with_name(f"test_ops_{name}.py")) for name in names]
        clean = {name: "" for name in FORCED_BY}
        done = python(
            *("-m", "pytest", "-q", "-x", "-k", "compiled and not plain", *files),
            **{**clean, **environment, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout

    @pytest.mark.parametrize("path", paths_of_this_cpu())
    def test_every_path_of_this_cpu(path):
        """The tests of the kernels once more on each, as on an older CPU."""
        assert f"CPU kernels of this run: compiled for {path}," in kernel_tests(NAMES, **PATHS[path][0])

    @pytest.mark.parametrize("path", emulated_cpu.paths())
    def test_every_path_of_other_cpus(path):
        """The same on the emulator, of the paths that this CPU lacks."""
        printed = kernel_tests(EMULATED, **PATHS[path][0], LD_PRELOAD=str(emulated_cpu.library()))
        assert f"CPU kernels of this run: compiled for {path}," in printed

    @pytest.mark.parametrize("kernels", ["avx512_vnni", "avx512_bf16"])
    def test_onednn_beside_older_kernels(kernels):
        """As from a compiler that does not know AVX512-BF16, or AMX: oneDNN takes narrow weights of every kind, or on tiles."""
        is_emulated = "avx512_bf16" in emulated_cpu.paths()
        preload = {"LD_PRELOAD": str(emulated_cpu.library())} if is_emulated else {}
        printed = kernel_tests(("fp8", "int4", "linear"), QWENVL_ISA=kernels, **preload)
        assert not is_emulated or "compiled for amx," in printed
