#!/usr/bin/env bash
# The check before a change is sent: lint, format, types, the walls between the rooms, and all tests but the slow ones.
# bash tests/run.sh [--quick] [what pytest takes]
#   --quick       in under a minute on two idle cores: no types, and only tests that do not train, start no process and
#                 do not compute for about a second or more
#   -k plan       only tests with that word in their name
#   -m slow       only the slow tests; -m "slow or not slow" takes all tests, as .ci/run does
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE # pytest keeps what it makes of the test files, and need not make it anew each time
quick=()
if [ "${1:-}" = --quick ]; then
    shift
    quick=(-m "not trains and not processes and not seconds")
fi
ruff check .
ruff format --check .
if [ ${#quick[@]} = 0 ]; then mypy; fi
lint-imports --no-cache
pytest -n "${REPRO_TEST_WORKERS:-2}" --dist loadfile "${quick[@]}" "$@"
