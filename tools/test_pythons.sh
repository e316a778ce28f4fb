#!/usr/bin/env bash
# Run the fast tests with every Python from 3.11 to 3.13 that is on this machine, each in its own environment.
set -euo pipefail
cd "$(dirname "$0")/.."
UV=${UV:-uv}
# pyenv's programs find only the versions that are switched on.
if command -v pyenv >/dev/null; then
    PYENV_VERSION=$(pyenv versions --bare | paste -sd:)
    export PYENV_VERSION
fi
export UV_PYTHON_DOWNLOADS=never YOLO_OFFLINE=true HF_HUB_OFFLINE=1
failed=0
for version in 3.11 3.12 3.13; do
    if ! python=$(env -u UV_PYTHON "$UV" python find --no-project --system "$version" 2>/dev/null); then
        echo "Python $version is not here: skipped"
        continue
    fi
    echo "Python $version: $python"
    export UV_PROJECT_ENVIRONMENT=".venv-$version"
    "$UV" sync --locked --quiet --python "$python" --all-packages --all-extras --group dev
    "$UV_PROJECT_ENVIRONMENT/bin/pytest" -n "${JOBS:-2}" --dist loadfile -p no:cacheprovider \
        -m "not slow and not browser and not training" || failed=1
done
exit $failed
