#!/bin/bash
# Ends what up.sh FOLDER started, jobs included. The folder stays.
set -euo pipefail
folder=$(cd "${1:?usage: down.sh FOLDER}" && pwd)
export SLURM_CONF=$folder/slurm.conf
timeout 5 scancel --user=root 2>/dev/null || true

alive() { # the daemons that still run
    local file pid
    for file in "$folder"/run/*.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue # it removes the file as it ends
        if kill -0 "$pid" 2>/dev/null; then echo "$pid"; fi
    done
}

# Jobs first: a node's daemon that ends leaves their processes behind.
for ((i = 0; i < 50; ++i)); do
    [[ -n $(timeout 5 squeue -h 2>/dev/null) ]] || break
    sleep 0.1
done
for signal in TERM KILL; do
    for pid in $(alive); do kill "-$signal" "$pid" 2>/dev/null || true; done
    for ((i = 0; i < 50; ++i)); do
        [[ -n $(alive) ]] || exit 0
        sleep 0.1
    done
done
