#!/usr/bin/env bash
# Everything that is worth measuring on a lent GPU, in at most eight minutes and the best first.
# Needs a python3 with torch for CUDA, numpy, pyarrow, safetensors, fsspec and pytest, and this tree; wheels in
# .whl/ are unpacked first. Results go to $OUT: results.jsonl, a line a step; table.txt; log.txt.
#   OUT=folder benchmarks/gpu_session.sh         TINY=1 rehearses it on a CPU with toy sizes
set -u
cd "$(dirname "$0")/.." || exit 1
export PYTHONPATH="packages/phq_data/src:packages/portraitgan/src:.${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
if compgen -G ".whl/*.whl" >/dev/null; then
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" .whl/*.whl
    PYTHONPATH="$PYTHONPATH:$site"
fi
exec "$python" -m benchmarks.gpu_session --out "${OUT:-gpu-session-out}" ${TINY:+--tiny} "$@"
