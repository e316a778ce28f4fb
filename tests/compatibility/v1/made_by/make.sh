#!/bin/bash
# How the files beside this were made, with PHQ 0.1.0 (see README.md). It needs that version's programs on the
# PATH and works in /tmp/phq-v1, whose name is in the tables.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1 YOLO_OFFLINE=true HF_HUB_OFFLINE=1 PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1
rm -rf /tmp/phq-v1
mkdir -p /tmp/phq-v1
cd /tmp/phq-v1

# accuracy/: three photos of four people whose truth is known
phq synthesize accuracy --count 3 --seed 172 --jobs 1

# more/: two of them again, with other bytes, the same bytes and mirrored; a small picture; no picture
mkdir more
python - <<'PYTHON'
from PIL import Image
photo = Image.open("accuracy/photos/000000.jpg")
photo.save("more/again.jpg", quality=90)
photo.resize((48, 60)).save("more/small.png")
Image.open("accuracy/photos/000001.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("more/mirrored.jpg")
PYTHON
cp accuracy/photos/000000.jpg more/copy.jpg
echo "not a photo" > more/note.txt
cp "$here/more-rights.json" more/rights.json

# workspace/: three parts, settings away from the defaults
phq build --workspace workspace --runner inline --workers 1 \
    --set part_size=3 --set crop.size=64 --set fit.view=keypoints --set fit.starts=3 --set detect.mirror=false \
    --set screen.max_doubt=0.6 \
    accuracy/photos synthetic:3@87 more

# review/review.sqlite and tables/decisions of the workspace, decisions.csv and .parquet
python "$here/review.py" workspace
portraits=$(python -c "
from phq_data.workspace import Workspace
print(*sorted(Workspace.open('workspace').kept(['portrait_id'])['portrait_id'].to_pylist()))")
phq review known accept ${portraits%% *} --workspace workspace
phq review policy --set known_share=0.1 --set overlap_share=0.25 --workspace workspace
phq review invite "Ada L." --role lead --workspace workspace > invitation.txt
phq review export decisions.csv --workspace workspace
phq review export decisions.parquet --workspace workspace

# releases/1.0.0 of what was accepted, with the truth where it is known
phq release build --workspace workspace --releases releases --version 1.0.0 --name phq-portraits-v1 \
    --creator "Ada Example" --date 2026-01-10 --splits 0.5,0.1,0.4 --truth accuracy/truth.parquet

# run/ and cache/: two checkpoints of a training of 16 images, before anything was taken down
portraitgan train --data releases/1.0.0 --out run --preset tiny --device cpu --cache cache $(cat "$here/train-settings.txt")

# latent/: an inversion, and the run's metrics
first=$(python -c "
from phq_data.release import reader
print(reader.open('releases/1.0.0').split('train')[0]['portrait_id'])")
portraitgan invert run latent --data releases/1.0.0 --portrait "$first" --steps 2 --preview-every 2 --device cpu
portraitgan metrics run --data releases/1.0.0 --only canonicality,pose --people 4 --device cpu

# releases/tombstones.json
phq release takedown --releases releases --author "Ada Example" --reason "asked for"
phq release takedown --releases releases --url https://example.org/gone --reason "asked for"

# scraped/: photos from a list of addresses, then built with the default settings but for the picture's size
python -m http.server 8173 --bind 127.0.0.1 --directory accuracy/photos > server.txt 2>&1 &
server=$!
trap 'kill $server' EXIT
sleep 2
cp "$here/urls.csv" .
PHQ_CONTACT=ada@example.org PHQ_ALLOW_PRIVATE_HOSTS=1 phq scrape urls urls.csv --workspace scraped
phq build --workspace scraped --runner inline --workers 1 --set crop.size=64
