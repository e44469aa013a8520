# Sourced by the scripts of this folder, from the repository's root.
#   EXTRAS=test,host  extras of setup.py to install; PaddleNLP alone where it is not set, none where it is empty

say() { printf '[%s] %s\n' "$(basename "$0" .sh)" "$*"; }

stop() {
    printf '[%s] stopped: %s\n' "$(basename "$0" .sh)" "$*" >&2
    exit 1
}

# The versions that go together with these extras, and the newest Python that has them.
EXTRAS=${EXTRAS-paddlenlp}
case ,$EXTRAS, in
    *,paddlenlp,* | *,host,*) constraints=constraints-paddlenlp.txt newest=3.12 ;;
    *) constraints=constraints-core.txt newest=3.13 ;;
esac
pythons="Python 3.10 to $newest"

usable() { "$1" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, ${newest#3.}))" 2>/dev/null; }

# first_usable CANDIDATE...: prints the first of them that works.
first_usable() {
    for candidate in "$@"; do
        if usable "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    stop "no $pythons on the PATH; install one, or name it: PYTHON=/path/to/python sh $0"
}

# Prints the interpreter to use: $PYTHON, else the first that works of those on the PATH.
find_python() {
    if [ -z "${PYTHON:-}" ]; then
        first_usable python3 python python3.11 python3.12 python3.10 python3.13
    elif usable "$PYTHON"; then
        printf '%s\n' "$PYTHON"
    else
        stop "PYTHON=$PYTHON is not a working $pythons"
    fi
}

# make_venv FOLDER: a virtual environment of our own; leaves its interpreter in PYTHON.
make_venv() {
    if [ ! -x "$1/bin/python" ] || ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
        base=$(find_python)
        say "making the virtual environment $1 with $("$base" --version)"
        "$base" -m venv --clear "$1" ||
            stop "'$base -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv"
    fi
    PYTHON=$PWD/$1/bin/python
    export PYTHON
}

# run_pip ARGUMENTS: pip of $PYTHON, errors only, within the constraints.
run_pip() {
    "$PYTHON" -m pip --disable-pip-version-check install -qq --constraint "$constraints" "$@" ||
        stop "pip could not install: $* (its own words are above)"
}
