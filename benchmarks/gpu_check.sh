#!/bin/sh
# Everything worth knowing about a checkout on a GPU machine, in one go: builds the libraries, asks them what they see,
# runs the tests that need a GPU, the benchmark, and compute-sanitizer on a few tests.
#
#   benchmarks/gpu_check.sh [build] [test] [bench] [memcheck] [racecheck]     all of them when none is named
#
# Every stage has its own time limit and its own log in $OUT; a failed one does not keep the others from running.
# Needs Python with torch and pytest, and for `build` cmake and nvcc; nothing is installed or downloaded.
#   OUT=bench_out  PYTHON=python3  COMMIT=<to record, where there is no checkout>  REBUILD=1 <although built>
#   BUILD_SECONDS, TEST_SECONDS, BENCH_SECONDS, MEMCHECK_SECONDS, RACECHECK_SECONDS
#   TEST_ARGS, BENCH_ARGS, SANITIZE_TESTS                                     more arguments of a stage
set -u
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-bench_out}
PYTHON=${PYTHON:-python3}
SANITIZE_TESTS=${SANITIZE_TESTS:-"tests/kernels/test_edges.py -k 'tokens_before or many_key_blocks or many_query_heads'"}
export PYTHONPATH="$PWD/python:$PWD/jax_bindings${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$OUT"
: >"$OUT/summary.txt"
failed=0

say() { echo "$*" | tee -a "$OUT/summary.txt"; }

# stage NAME SECONDS COMMAND: runs it under the limit, keeps its output in $OUT/NAME.log, shows the end of it.
stage() {
  name=$1 seconds=$2 began=$(date +%s)
  echo "== $name (at most $seconds s)"
  timeout --kill-after=15 "$seconds" sh -c "$3" >"$OUT/$name.log" 2>&1
  status=$?
  tail -n "${TAIL_LINES:-25}" "$OUT/$name.log"
  case $status in
    0) outcome=ok ;;
    124 | 137) outcome="stopped at its limit of $seconds s" ;;
    *) outcome="failed with status $status" ;;
  esac
  [ $status -eq 0 ] || failed=1
  say "$name: $outcome, $(($(date +%s) - began)) s"
}

build() {
  if [ -e python/portattn/lib/libportattn_cuda.so ] && [ -z "${REBUILD:-}" ]; then
    say "build: skipped, python/portattn/lib has a CUDA library (REBUILD=1 builds anyway)"
  else
    stage build "${BUILD_SECONDS:-480}" \
      "PORTATTN_TARGETS=\${PORTATTN_TARGETS:-host,cuda} '$PYTHON' setup.py --quiet build_ext --inplace"
  fi
  stage info 60 "nvidia-smi; '$PYTHON' -m portattn.info"
}

run_tests() {
  stage test "${TEST_SECONDS:-300}" "'$PYTHON' -m pytest -m L1 -q -p no:cacheprovider --durations=8 ${TEST_ARGS:-}"
  stage host_cost 60 "'$PYTHON' -m pytest -m L3 -q -p no:cacheprovider tests/torch/test_host_cost.py"
}

run_bench() {
  commit=${COMMIT:+--commit $COMMIT}
  TAIL_LINES=160 stage bench "${BENCH_SECONDS:-300}" \
    "'$PYTHON' benchmarks/bench.py --json '$OUT/bench.json' $commit ${BENCH_ARGS:-}"
}

# sanitize TOOL SECONDS: only portattn's own kernels, and torch without its caching allocator, which would hide errors.
sanitize() {
  if ! command -v compute-sanitizer >/dev/null; then
    say "$1: skipped, compute-sanitizer is not on the PATH"
    return
  fi
  stage "$1" "$2" "PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $1 --kernel-name kns=portattn \
    --error-exitcode 9 '$PYTHON' -m pytest -m L1 -q -p no:cacheprovider $SANITIZE_TESTS"
}

for wanted in ${*:-build test bench memcheck racecheck}; do
  case $wanted in
    build) build ;;
    test) run_tests ;;
    bench) run_bench ;;
    memcheck) sanitize memcheck "${MEMCHECK_SECONDS:-150}" ;;
    racecheck) sanitize racecheck "${RACECHECK_SECONDS:-200}" ;;
    *)
      say "$wanted: no such stage; there are build, test, bench, memcheck and racecheck"
      failed=1
      ;;
  esac
done
echo "== summary"
cat "$OUT/summary.txt"
exit $failed
