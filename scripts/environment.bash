# Makes and updates .venv, the environment of demo, test and bench. Sourced; needs Python >= 3.11 and a package index.
#
#   ensure_environment [EXTRA...]   extras of pyproject.toml, e.g. dev torch
#
# A part is installed again only when pyproject.toml or the Python version changed (.venv/installed/PART remembers).
# JAXFT_EXTRAS="cuda" (or tpu, track) adds extras to every command.

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$repo"
venv="$repo/.venv"
python="$venv/bin/python"

say() { printf '%s\n' "$*" >&2; }

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        # A name on the path may be a stub that cannot run, so each one is tried.
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "error: no Python >= 3.11 with the venv module found (python3 is: $(python3 --version 2>&1 | head -1))."
    say "       Install one, e.g. 'apt install python3.12 python3.12-venv' or 'brew install python@3.12', and run this again."
    exit 2
}

# What the installed parts were made from.
fingerprint() {
    "$python" -c 'import hashlib, pathlib, sys
print(hashlib.sha256(pathlib.Path("pyproject.toml").read_bytes()).hexdigest(), sys.version)'
}

ensure_environment() {
    local base now extras="" part parts=() missing=0
    if ! "$python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        base="$(find_python)"
        say "making .venv with $base ($("$base" --version))"
        "$base" -m venv --clear "$venv"
    fi
    # The type checker reads no package-dir mapping: show it kernels/ under its installed name.
    mkdir -p "$venv/typings/jaxft" "$venv/installed"
    ln -sfn ../../../kernels "$venv/typings/jaxft/kernels"

    now="$(fingerprint)"
    for part in jaxft "$@" ${JAXFT_EXTRAS:-}; do
        parts+=("$part")
        if [ "$part" != jaxft ]; then extras="$extras${extras:+,}$part"; fi
        if [ "$(cat "$venv/installed/$part" 2>/dev/null)" != "$now" ]; then missing=1; fi
    done
    if [ "$missing" = 1 ]; then
        say "installing jaxft${extras:+[$extras]} and what it needs into .venv (minutes the first time)"
        "$python" -m pip install -qq --disable-pip-version-check --editable "$repo${extras:+[$extras]}"
        for part in "${parts[@]}"; do printf '%s\n' "$now" >"$venv/installed/$part"; done
    fi
    if [ -z "${JAXFT_EXTRAS:-}" ] && command -v nvidia-smi >/dev/null 2>&1; then
        say "note: there is an NVIDIA GPU here; JAXFT_EXTRAS=cuda $0 uses it (downloads CUDA libraries)"
    fi
    export PATH="$venv/bin:$PATH"
}
