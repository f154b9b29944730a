#!/usr/bin/env bash
# Is this GPU right, how fast is it, and does a training go on bit for bit? Eight minutes, no network; see README.md.
# bash tests/gpu.sh [what `python -m repro gpu` takes]
#   WHEELS=DIR        packages that python3 lacks, as wheels; seen from the checkout (default: .wheels, if there)
#   REPRO_DATA=DIR    data root (default: .data, if there)
#   OUT=DIR           folder for the figures (default: repro-work)
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=${WHEELS:-.wheels}
if [ -d "$wheels" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$wheels"/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
if [ -z "${REPRO_DATA:-}" ] && [ -d .data ]; then export REPRO_DATA=$PWD/.data; fi
mapfile -t tests < <(find tests -name 'test_*_gpu.py' | sort)
python3 -m repro gpu ${tests[0]:+--tests "${tests[@]}"} "$@"
