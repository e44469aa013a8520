# Sourced by the scripts of this folder, from the repository's root.

say() { printf '[%s] %s\n' "$(basename "$0" .sh)" "$*"; }

stop() {
    printf '[%s] stopped: %s\n' "$(basename "$0" .sh)" "$*" >&2
    exit 1
}

usable() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

# Prints the interpreter to use: $PYTHON, else the first of Python 3.10 to 3.12 on the PATH.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" || stop "PYTHON=$PYTHON is not a working Python 3.10, 3.11 or 3.12"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python python3.11 python3.12 python3.10; do
        if usable "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    stop "no Python 3.10, 3.11 or 3.12 on the PATH; install one, or name it: PYTHON=/path/to/python sh $0"
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

# run_pip ARGUMENTS: pip of $PYTHON, errors only, within constraints.txt.
run_pip() {
    "$PYTHON" -m pip --disable-pip-version-check install -qq --constraint constraints.txt "$@" ||
        stop "pip could not install: $* (its own words are above)"
}
