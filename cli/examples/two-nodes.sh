#!/usr/bin/env bash
# Two machines: start the same line on both, within fifteen minutes of each other.
#   FIRST=10.0.0.1 bash cli/examples/two-nodes.sh
# FIRST is the address of one of them; OUT lies on a disk that both see. Experts are spread inside a
# machine, where the links are fast; between machines only sharded weights and gradients travel.
set -euo pipefail

first=${FIRST:?the address of one of the machines}
gpus=${GPUS:-8}
out=${OUT:-runs/two-nodes}

torchrun --nnodes 2 --nproc-per-node "$gpus" --max-restarts 3 \
    --rdzv-id "${RUN:-minids}" --rdzv-backend c10d --rdzv-endpoint "$first:${PORT:-29400}" \
    --rdzv-conf join_timeout=900 \
    -m minids train --config node --set parallel.expert="$gpus" --out "$out" "$@"
