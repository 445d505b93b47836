#!/usr/bin/env bash
# One machine, all its GPUs: bash cli/examples/node.sh [more flags of minids train]
# If a rank dies, all are started anew (three times at most) and the run goes on where it was saved.
set -euo pipefail

gpus=${GPUS:-8}
out=${OUT:-runs/node}

torchrun --standalone --nproc-per-node "$gpus" --max-restarts 3 \
    -m minids train --config node --set parallel.expert="$gpus" --out "$out" "$@"
