#!/bin/bash
# What of make.sh's results is kept beside this; `rig.safetensors`, four times the same, once.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
cd /tmp/phq-v1
cmp workspace/rig.safetensors run/rig.safetensors
cmp workspace/rig.safetensors scraped/rig.safetensors
cmp workspace/rig.safetensors releases/1.0.0/rig.safetensors
cp workspace/rig.safetensors "$here"
cp accuracy/truth.parquet decisions.csv decisions.parquet "$here"
rm -rf "$here"/{workspace,scraped,releases,run,cache,latent}
cp -r workspace scraped releases run cache latent "$here"
cd "$here"
rm -r run/snapshots run/checkpoints/kimg-000000.008 latent/*.png
rm {workspace,scraped,run,releases/1.0.0}/rig.safetensors
find . -name "*.lock" -delete
