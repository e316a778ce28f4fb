#!/bin/bash
# json_keys.json: the keys of what the programs of version 0.1.0 print with --json (small measurements where the
# names do not depend on the size). Runs after make.sh, in the repository, in a copy of its workspace.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1 YOLO_OFFLINE=true HF_HUB_OFFLINE=1
cp -r /tmp/phq-v1/workspace /tmp/phq-v1/measured
cd /tmp/phq-v1
said() {  # NAME COMMAND...: a line of json_keys.json
    local name=$1
    shift
    printf '"%s": %s,\n' "$name" "$("$@" 2>> keys.log | python "$here/describe.py" keys)"
}
{
    said "phq accuracy --json" phq accuracy --workspace measured --truth accuracy/truth.parquet --json
    said "phq accuracy-compare --json" phq accuracy-compare accuracy/photos --truth accuracy/truth.parquet \
        --workspace compare --set fit.starts=1 --json
    said "phq consistency --json" phq consistency accuracy/photos/000000.jpg more/note.txt --json
    said "phq review status --json" phq review status --workspace measured --json
    said "phq release stats --json" phq release stats releases/1.0.0 --json
    said "phq release list --json" phq release list --releases releases --json
    said "make bench-build" python -m phq_data.bench --photos 2 --workers 1 --json
    said "make bench-release" python -m phq_data.release.bench --rows 64 --size 32 --json
    said "make bench-fetch" python -m phq_data.sources.web.bench --photos 20 --json
    said "make bench-crowdnet" python -m phq_data.models.crowdnet.bench --batch 1 --rounds 1 --json
    export JSON=1
    said "make bench-step" python -m portraitgan.bench step --preset tiny --repeats 1
    said "make bench-loader" python -m portraitgan.bench loader --rows 16 --size 32
    said "make bench-deformation" python -m portraitgan.bench deformation --batch 1 --rays 8 --brute-points 64 --repeats 1
    said "make bench-review-load" python -m annotator_app.load --reviewers 2 --seconds 5 --portraits 40 --size 64 --json
} > keys.txt
