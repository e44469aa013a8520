"""The set-up scripts, run by the system's `sh` among stand-ins for Python, nvidia-smi, nvcc and the compiler."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "shell").glob("*.sh"))
TOOLS = ("sh", "sed", "grep", "head", "tail", "sort", "dirname", "basename", "getconf", "mkdir", "cp", "cat", "cksum")
INDEX = "https://www.paddlepaddle.org.cn/packages/stable"

# Writes down what it is asked to do, and makes a virtual environment with itself in it.
PYTHON = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
    "-c import sys; print(sys.prefix)") dirname "$LOG" ;;
    "-c import sys"*) exit "${PYTHON_WRONG:-0}" ;;
    "-c import paddle"*) exit "${PADDLE_MISSING:-0}" ;;
    "-m pip show --quiet "*) [ "$5" = "${PADDLE_FOUND:-}" ] ;;
    "-m pip "*install*) exit "${PIP_FAILS:-0}" ;;
    "-m venv --clear "*)
        [ -z "${VENV_FAILS:-}" ] || exit 1
        mkdir -p "$4/bin"
        cp "$0" "$4/bin/python"
        cp "$0" "$4/bin/paddlemix-qwenvl"
        ;;
    "setup.py install") echo "error: the compiler's words"; exit "${BUILD_FAILS:-0}" ;;
    "-m paddlemix_qwenvl.cli doctor") exit "${DOCTOR_FAILS:-0}" ;;
    --version) echo Python 3.11.0 ;;
esac
"""
NVIDIA_SMI = """#!/bin/sh
case "$*" in
    -L) echo "GPU 0: A card (UUID: GPU-0)" ;;
    *compute_cap*) echo "$CAPABILITY" ;;
    *) echo "| NVIDIA-SMI 570.00   Driver Version: 570.00   CUDA Version: $DRIVER_CUDA     |" ;;
esac
"""
NVCC = "#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.99'\n"


class Machine:
    """A copy of the scripts, and a PATH that holds nothing but the stand-ins and a few tools."""

    def __init__(self, folder: Path):
        self.root, self.bin, self.log = folder / "repository", folder / "bin", folder / "log"
        shutil.copytree(ROOT / "shell", self.root / "shell")
        for file in ROOT.glob("constraints*.txt"):
            shutil.copy(file, self.root)
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.add("python3", PYTHON)

    def add(self, name: str, script: str = "#!/bin/sh\n"):
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def run(self, script: str, *arguments: str, **environment: str):
        self.log.write_text("")
        environment = {"PATH": str(self.bin), "LOG": str(self.log), **environment}
        command = [self.bin / "sh", self.root / "shell" / script, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def calls(self, word: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if word in line]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def stopped_by_one_line(result) -> str:
    """The line that a script stopped with; it must be the only one on standard error that is not a tool's."""
    lines = [line for line in result.stderr.splitlines() if "] stopped: " in line]
    assert result.returncode == 1 and len(lines) == 1, result
    assert result.stderr.splitlines()[-1] == lines[0]
    return lines[0]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_parses(script):
    subprocess.run(["sh", "-n", script], check=True)


@pytest.mark.parametrize(
    ("driver", "capability", "build"),
    [
        ("11.4", "8.0", "cu118"),
        ("11.8", "7.0", "cu118"),
        ("12.0", "8.0", "cu126"),
        ("12.8", "9.0", "cu126"),
        ("12.9", "9.0", "cu129"),
        ("13.0", "9.0", "cu130"),
        ("13.1", "7.5", "cu130"),
        ("13.0", "7.0", "cu126"),
        ("13.0", "9.0\n6.1", "cu126"),
    ],
)
def test_gpu_build_follows_the_driver(machine, driver, capability, build):
    machine.add("nvidia-smi", NVIDIA_SMI)
    machine.add("nvcc", NVCC)
    result = machine.run("build_paddle_env.sh", DRIVER_CUDA=driver, CAPABILITY=capability)
    assert result.returncode == 0, result
    assert f"CUDA {driver}, nvcc is 12.4: Paddle {build}" in result.stderr
    (install,) = machine.calls("install")
    assert install.endswith(
        f"--constraint constraints-paddlenlp.txt paddlepaddle-gpu==3.3.1 --extra-index-url {INDEX}/{build}/"
    )


@pytest.mark.parametrize("present", [(), ("nvcc",)])
def test_cpu_build_without_a_gpu(machine, present):
    for name in present:
        machine.add(name, NVCC)
    for _ in range(2):
        result = machine.run("build_paddle_env.sh")
        assert result.returncode == 0, result
        assert "no GPU answers" in result.stderr and ("nvcc 12.4" in result.stderr) == bool(present)
        (install,) = machine.calls("install")
        assert install.endswith(" paddlepaddle==3.3.1")


def test_the_environment_decides(machine):
    machine.add("nvidia-smi", NVIDIA_SMI)
    seen = {"DRIVER_CUDA": "12.9", "CAPABILITY": "9.0"}
    machine.run("build_paddle_env.sh", PADDLE_CUDA="cpu", **seen)
    assert machine.calls("install")[0].endswith(" paddlepaddle==3.3.1")
    machine.run("build_paddle_env.sh", PADDLE_CUDA="cu118", PADDLE_INDEX="http://mirror/paddle", **seen)
    assert machine.calls("install")[0].endswith(" --extra-index-url http://mirror/paddle/cu118/")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"DRIVER_CUDA": "10.2", "CAPABILITY": "7.0"}, "CUDA 10.2 is older"),
        ({"PADDLE_CUDA": "banana"}, "PADDLE_CUDA=banana is none of"),
        ({"PADDLE_CUDA": "cpu", "PADDLE_FOUND": "paddlepaddle-gpu"}, "pip uninstall paddlepaddle-gpu"),
        ({"PADDLE_CUDA": "cpu", "PIP_FAILS": "1"}, "pip could not install: paddlepaddle==3.3.1"),
        ({"PADDLE_CUDA": "cpu", "PADDLE_MISSING": "1"}, "does not import"),
        ({"PYTHON_WRONG": "1"}, "no Python 3.10 to 3.12 on the PATH"),
        ({"PYTHON_WRONG": "1", "EXTRAS": "test"}, "no Python 3.10 to 3.13 on the PATH"),
        ({"PYTHON": "/no/such/python"}, "PYTHON=/no/such/python is not"),
    ],
)
def test_paddle_stops_with_one_line(machine, environment, says):
    machine.add("nvidia-smi", NVIDIA_SMI)
    assert says in stopped_by_one_line(machine.run("build_paddle_env.sh", **environment))


def test_package_without_operations_or_compiler(machine):
    result = machine.run("build_env.sh", EXTRAS="test")
    assert result.returncode == 0 and "no external_ops/setup.py: the plain Paddle path is used" in result.stdout
    assert machine.calls("install")[-1].endswith("--no-build-isolation --editable .[test]")
    (machine.root / "external_ops").mkdir()
    (machine.root / "external_ops" / "setup.py").touch()
    result = machine.run("build_env.sh")
    assert result.returncode == 0 and "no C++ compiler" in result.stdout and not machine.calls("setup.py")
    assert machine.calls("install")[-1].endswith(
        "--constraint constraints-paddlenlp.txt --no-build-isolation --editable .[paddlenlp]"
    )
    assert machine.run("build_env.sh", EXTRAS="").returncode == 0
    assert machine.calls("install")[-1].endswith("--constraint constraints-core.txt --no-build-isolation --editable .")


def test_operations_are_built_once(machine):
    machine.add("g++")
    (machine.root / "external_ops").mkdir()
    source = machine.root / "external_ops" / "setup.py"
    source.touch()
    result = machine.run("build_env.sh", BUILD_FAILS="1")
    assert "install.log" in stopped_by_one_line(result) and "the compiler's words" in result.stderr
    result = machine.run("build_env.sh")
    assert result.returncode == 0 and "the compiled operations are built" in result.stdout and machine.calls("doctor")
    assert machine.calls("setup.py") == ["setup.py install"]
    assert "are there already" in machine.run("build_env.sh").stdout and not machine.calls("setup.py")
    source.write_text("# changed")
    assert machine.run("build_env.sh").returncode == 0 and machine.calls("setup.py")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"PADDLE_MISSING": "1"}, "first: sh shell/build_paddle_env.sh"),
        ({"PIP_FAILS": "1"}, "pip could not install: setuptools"),
        ({"DOCTOR_FAILS": "1"}, "the set-up is not usable"),
    ],
)
def test_package_stops_with_one_line(machine, environment, says):
    assert says in stopped_by_one_line(machine.run("build_env.sh", **environment))


@pytest.mark.parametrize("script", ["test.sh", "quickstart.sh"])
def test_each_command_keeps_to_its_own_environment(machine, script):
    folder = machine.root / f".venv-{script.removesuffix('.sh')}"
    assert machine.run(script, "--flag", "a word").returncode == 0
    assert len(machine.calls("-m venv")) == 1 and (folder / "bin" / "python").exists()
    assert machine.run(script, "--flag", "a word").returncode == 0
    assert not machine.calls("-m venv")
    last = machine.log.read_text().splitlines()[-1]
    assert last.startswith("-m pytest -n" if script == "test.sh" else "infer ") and last.endswith("--flag a word")


@pytest.mark.parametrize(
    ("script", "environment", "package"),
    [
        ("test.sh", {}, "constraints-paddlenlp.txt --no-build-isolation --editable .[test,paddlenlp]"),
        ("test.sh", {"CORE": "yes"}, "constraints-core.txt --no-build-isolation --editable .[test]"),
        ("quickstart.sh", {}, "constraints-core.txt --no-build-isolation --editable ."),
        ("quickstart.sh", {"EXTRAS": "host"}, "constraints-paddlenlp.txt --no-build-isolation --editable .[host]"),
    ],
)
def test_which_versions_each_command_installs(machine, script, environment, package):
    assert machine.run(script, **environment).returncode == 0
    paddle, *_ = machine.calls("install -qq")
    assert package.partition(" ")[0] in paddle and machine.calls("--editable")[0].endswith(package)


def test_the_core_is_tested_with_the_newest_python(machine):
    for name in ("python3.12", "python3.13"):
        machine.add(name, PYTHON)
    assert machine.run("test.sh", CORE="yes").returncode == 0
    assert (machine.root / ".venv-core" / "bin" / "python").exists() and not (machine.root / ".venv-test").exists()


def test_quickstart_asks_about_the_picture_by_default(machine):
    machine.run("quickstart.sh")
    picture = "examples/images/shapes.png"
    question = "--question Locate all shapes. --draw outputs/quickstart.png"
    assert machine.calls("infer") == [f"infer --image_file {picture} {question}"]
    assert (ROOT / picture).is_file()


def test_a_python_without_venv(machine):
    assert "python3-venv" in stopped_by_one_line(machine.run("test.sh", VENV_FAILS="1"))
