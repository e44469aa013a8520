"""What `doctor` says of good and of broken environments."""

import importlib.metadata
import re
import sys
import types
from types import SimpleNamespace

import pytest
from gpu_stand_in import card
from packaging.requirements import Requirement

from paddlemix_qwenvl import threads
from paddlemix_qwenvl.commands import machine_doctor as doctor

REQUIRES = [
    "numpy<2,>=1.26",
    "tqdm>=4",
    'paddlepaddle<4,>=3.0; extra == "cpu"',
    'paddlepaddle-gpu<4,>=3.0; extra == "gpu"',
    'paddlenlp==3.0.0b4; extra == "paddlenlp"',
    'pytest>=8; extra == "test"',
]
GOOD = {doctor.PACKAGE: "0.1.0", "numpy": "1.26.4", "paddlenlp": "3.0.0b4", "tqdm": "4.70.1", "paddlepaddle": "3.3.1"}


@pytest.fixture
def installed(monkeypatch):
    """A function that makes these the installed distributions."""

    def install(versions):
        def version(name):
            if name not in versions:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        def requires(name):
            return version(name) and REQUIRES

        monkeypatch.setattr(doctor.metadata, "version", version)
        monkeypatch.setattr(doctor.metadata, "requires", requires)

    return install


def problems(findings):
    return {finding.subject: finding for finding in findings if finding.remedy}


def test_good_versions(installed):
    installed(GOOD)
    findings = list(doctor.package_versions())
    assert [(finding.subject, finding.found) for finding in findings] == [
        (doctor.PACKAGE, "0.1.0"),
        ("paddlepaddle", "3.3.1"),
        ("numpy", "1.26.4"),
        ("tqdm", "4.70.1"),
    ]
    assert not problems(findings)


@pytest.mark.parametrize(
    ("name", "version", "fatal", "found"),
    [
        ("numpy", "2.1.0", True, "2.1.0, wanted <2,>=1.26"),
        ("tqdm", "3.9", False, "3.9, wanted >=4"),
        ("tqdm", None, True, "missing, wanted >=4"),
        ("paddlepaddle", "2.6.2", True, "2.6.2, wanted <4,>=3.0"),
    ],
)
def test_one_wrong_version(installed, name, version, fatal, found):
    installed({key: value for key, value in {**GOOD, name: version}.items() if value})
    ((subject, finding),) = problems(doctor.package_versions()).items()
    assert (subject, finding.found, finding.fatal) == (name, found, fatal)
    assert f'pip install "{name}' in finding.remedy


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({}, ["host paddlenlp: not installed: needed for its own API alone, then ==3.0.0b4"]),
        ({"paddlenlp": "2.8.1"}, ["host paddlenlp: 2.8.1, wanted ==3.0.0b4"]),
        (
            {"paddlenlp": "3.0.0b4", "paddlemix": "0.1", "paddleformers": "1.2.0"},
            [
                "host paddlenlp: 3.0.0b4, its import works",
                "host paddlemix: 0.1, its import fails: ImportError: broken",
                "host paddleformers: 1.2.0, its import works",
            ],
        ),
    ],
)
def test_hosts_are_told_of_but_not_needed(installed, monkeypatch, versions, found):
    def load(module):
        if module == "paddlemix.auto":
            raise ImportError("broken")

    installed({**{name: version for name, version in GOOD.items() if name != "paddlenlp"}, **versions})
    monkeypatch.setattr(doctor.importlib, "import_module", load)
    findings = list(doctor.hosts())
    assert [f"{finding.subject}: {finding.found}" for finding in findings] == found
    assert not any(finding.fatal for finding in findings) and not problems(doctor.package_versions())
    assert all(
        ("its API: " in finding.remedy) == ("wanted" in finding.found or "fails" in finding.found)
        for finding in findings
    )


def test_paddle_missing_or_twice(installed):
    installed({name: version for name, version in GOOD.items() if name != "paddlepaddle"})
    missing = problems(doctor.package_versions())["Paddle"]
    installed({**GOOD, "paddlepaddle-gpu": "3.3.1"})
    twice = problems(doctor.package_versions())["Paddle"]
    assert missing.fatal and "build_paddle_env.sh" in missing.remedy
    assert twice.fatal and "pip uninstall" in twice.remedy


def test_used_from_source(installed):
    installed({})
    (finding,) = doctor.package_versions()
    assert "not installed" in finding.found and finding.remedy == "pip install -e ." and not finding.fatal


@pytest.mark.parametrize(
    ("version", "problem", "fatal"),
    [((3, 9), 1, 1), ((3, 10), 0, 0), ((3, 12), 0, 0), ((3, 13), 0, 0), ((3, 14), 1, 0)],
)
def test_python_version(monkeypatch, version, problem, fatal):
    monkeypatch.setattr(doctor.sys, "version_info", (*version, 0))
    finding = doctor.python_version()
    assert (bool(finding.remedy), finding.fatal) == (bool(problem), bool(fatal))


@pytest.mark.parametrize("module", doctor.IMPORTS)
def test_a_module_that_does_not_import(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    finding = doctor.import_of(module)
    assert finding.fatal and "ModuleNotFoundError" in finding.found and "build_env.sh" in finding.remedy


def test_a_diagnosis_without_paddle(monkeypatch):
    monkeypatch.setitem(sys.modules, "paddle", None)
    for name in [name for name in sys.modules if name.startswith("paddlemix_qwenvl.models")]:
        monkeypatch.delitem(sys.modules, name)
    findings = doctor.diagnose()
    subjects = [finding.subject for finding in findings]
    assert problems(findings)["import paddle"].fatal
    assert "CPU" in subjects and "device" not in subjects and "model cache" not in subjects


def test_this_environment_can_run_inference():
    findings = doctor.diagnose()
    assert [str(finding) for finding in findings if finding.fatal] == []
    subjects = {finding.subject for finding in findings}
    assert subjects >= {
        "Python",
        "import paddle",
        "host paddlenlp",
        "CPU",
        "threads",
        "flash attention",
        "model cache",
    }


def paddle_with(monkeypatch, gpus):
    """Pretend that Paddle is a CUDA build which sees these compute capabilities."""
    import paddle

    cards = [
        SimpleNamespace(name=f"Card {index}", total_memory=32 * 2**30, major=major, minor=minor)
        for index, (major, minor) in enumerate(gpus)
    ]
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.version, "cuda", lambda: "12.6")
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(paddle.device.cuda, "get_device_properties", cards.__getitem__)
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: gpus[0])


def test_gpus(monkeypatch):
    paddle_with(monkeypatch, [(8, 0), (9, 0)])
    first, second, flash = doctor.devices()
    assert (first.subject, first.found) == ("device gpu:0", "Card 0, 32 GiB, compute capability 8.0")
    assert second.subject == "device gpu:1"
    assert not flash.remedy


def test_a_v100_has_no_flash_attention(monkeypatch):
    paddle_with(monkeypatch, [(7, 0)])
    _, flash = doctor.devices()
    assert "--dtype float16" in flash.remedy and not flash.fatal


def test_a_cuda_build_without_a_gpu(monkeypatch):
    paddle_with(monkeypatch, [])
    (finding,) = doctor.devices()
    assert "nvidia-smi" in finding.remedy and not finding.fatal


def test_a_gpu_that_a_cpu_build_leaves_idle(monkeypatch):
    import paddle

    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: False)
    answer = SimpleNamespace(stdout="GPU 0: NVIDIA A100 (UUID: GPU-1)\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: answer)
    device, _ = doctor.devices()
    assert "GPU 0: NVIDIA A100 is not used" in device.found and "build_paddle_env.sh" in device.remedy


@pytest.mark.parametrize(
    ("flags", "fatal", "found"),
    [
        ({"avx2", "avx512f", "fpu"}, False, "AMD: avx2, avx512f"),
        ({"fpu"}, True, "AMD: no AVX2"),
        (set(), False, "AMD: no AVX2"),
    ],
)
def test_cpu(monkeypatch, flags, fatal, found):
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(doctor.environment, "cpu", lambda: ("AMD", frozenset(flags)))
    assert (doctor.cpu().fatal, doctor.cpu().found) == (fatal, found)


@pytest.mark.parametrize(("setting", "problem"), [("4", False), ("2", True), ("", False)])
def test_threads(monkeypatch, setting, problem):
    monkeypatch.setattr(doctor.environment, "cpu_count", lambda: 4)
    monkeypatch.setattr(threads, "cpu_count", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert bool(doctor.threads().remedy) == problem


def test_operations(monkeypatch):
    from paddlemix_qwenvl import ops

    monkeypatch.setattr(
        ops, "status", lambda: {"swiglu": "compiled", "linear": "Paddle", "sample": "compiled"}, raising=False
    )
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = [finding.found for finding in doctor.compiled_operations()]
    assert found[:2] == ["compiled: swiglu, sample", "Paddle: linear"]
    assert found[2].startswith("not built")


@pytest.mark.parametrize(
    ("ways", "isa", "has_onednn", "flags", "found"),
    [
        (["compiled for avx512"], "avx512", True, {"avx512_bf16"}, []),
        (["compiled for avx2"], "avx2", False, {"avx2"}, []),
        (["compiled for avx512"], "avx512", False, {"avx512_bf16"}, ["built without oneDNN"]),
        (["compiled for amx"], "amx", False, {"avx512_bf16", "amx_bf16"}, []),
        (
            ["plain Paddle (paddlemix_qwenvl_ops does not load: old)"],
            "",
            True,
            set(),
            ["built, but not used: plain Paddle"],
        ),
    ],
)
def test_builds_of_operations(monkeypatch, ways, isa, has_onednn, flags, found):
    library = types.SimpleNamespace(HAS_ONEDNN=has_onednn, isa=lambda: isa)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(doctor.importlib, "import_module", lambda name: library)
    monkeypatch.setattr(doctor.environment, "cpu", lambda: ("AMD", frozenset(flags)))
    findings = list(doctor.build_of_operations(ways))
    assert len(findings) == len(found) and all(
        f.found.startswith(words) for f, words in zip(findings, found, strict=True)
    )
    assert all("setup.py install" in finding.remedy or "PYTHONPATH" in finding.remedy for finding in findings)


@pytest.mark.parametrize(("source", "variable"), doctor.CACHES.items())
def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path, source, variable):
    monkeypatch.setenv("QWENVL_SOURCE", source)
    monkeypatch.setenv(variable, str(tmp_path / "not" / "made"))
    cache = doctor.model_cache()
    assert cache.found.startswith(f"{tmp_path}/not/made") and cache.found.endswith("GiB free") and not cache.remedy
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert variable in doctor.model_cache().remedy


def test_a_source_that_there_is_not(monkeypatch):
    monkeypatch.setenv("QWENVL_SOURCE", "nowhere")
    assert "QWENVL_SOURCE is 'nowhere'" in doctor.model_cache().found and not doctor.model_cache().fatal


def test_lines():
    assert str(doctor.Finding("CPU", "x")) == "ok    CPU                       x"
    warned, failed = doctor.Finding("CPU", "x", "do y"), doctor.Finding("CPU", "x", "do y", fatal=True)
    assert str(warned).splitlines()[0].startswith("warn") and str(warned).splitlines()[1].strip() == "-> do y"
    assert str(failed).startswith("FAIL")
    assert doctor.package_version(Requirement("no-such-distribution>=1")).fatal


def test_what_a_card_lacks_is_said_with_its_reason():
    with card((12, 0)):
        found = [finding.found for finding in doctor.compiled_operations()]
    assert any(re.fullmatch(r"plain Paddle \(.*only support SM.* got 120\): .*linear_int8.*", line) for line in found)
    assert any(re.fullmatch("Paddle's own, on a GPU: .*varlen_attention.*", line) for line in found)
