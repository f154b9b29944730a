#!/usr/bin/env bash
# The whole check: lint, format, types, the walls between the rooms, tests. Arguments go to pytest (for example -k plan).
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
ruff check .
ruff format --check .
mypy
lint-imports --no-cache
pytest -n "${REPRO_TEST_WORKERS:-2}" --dist loadfile "$@"
