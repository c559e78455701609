#!/usr/bin/env bash
# A launcher that goes on after its ranks have ended keeps no job: jobs/lib/signals.sh.
# shellcheck disable=SC2016,SC2034,SC2154  # scripts in quotes; what signals.sh reads and leaves
set -uo pipefail
# shellcheck source=support.bash
source "$(dirname "${BASH_SOURCE[0]}")/support.bash"
# shellcheck source=../../jobs/lib/messages.sh
source "$root/jobs/lib/messages.sh"
# shellcheck source=../../jobs/lib/signals.sh
source "$root/jobs/lib/signals.sh"

mkdir "$temporary/bin"
# fake NAME: a launcher from the lines on stdin.
fake() {
    { echo '#!/usr/bin/env bash' && cat; } >"$temporary/bin/$1"
    chmod +x "$temporary/bin/$1"
}

# start COMMAND…: as the job scripts do. Leaves `status`, `output` and `seconds`.
start() {
    local began=$SECONDS
    command=("$@")
    watch_signals
    run_command >"$temporary/output" 2>&1
    trap - USR1 TERM INT
    output=$(<"$temporary/output")
    seconds=$((SECONDS - began))
}
launcher_patience=2

# A rank that ends, and a launcher that does not: it has one child that has ended, and none that runs.
fake mpirun <<<'sleep 0.5 & exec sleep 60'
start "$temporary/bin/mpirun" -np 1 program
expect_status 137 "a launcher that hangs in its end"
expect_text "the ranks have ended and mpirun has not, for 2 s" "a launcher that hangs in its end"
expect "a launcher that hangs is ended soon ($seconds s)" test "$seconds" -lt 20

# A rank that runs for longer than the patience.
fake mpirun <<<'sleep 6 & wait $!; exit 75'
start "$temporary/bin/mpirun" -np 1 program
expect_status 75 "a launcher whose rank runs"
expect_no_text "mpirun has not" "a launcher whose rank runs"

# The pause before the first rank is not its end.
mkfifo "$temporary/quiet"
fake mpirun <<<"read -rt 5 <>'$temporary/quiet'; exit 3"
start "$temporary/bin/mpirun" -np 1 program
expect_status 3 "a launcher that starts slowly"

# srun's ranks are no children of it.
fake srun <<<"sleep 0.2 & read -rt 5 <>'$temporary/quiet'; exit 4"
start "$temporary/bin/srun" program
expect_status 4 "another launcher"

# A signal reaches the launcher, and its code comes back, beside the guard.
fake mpirun <<<'trap "kill \$child; exit 75" USR1; sleep 60 & child=$!; wait "$child"; exit 1'
(sleep 1 && kill -TERM $$) &
start "$temporary/bin/mpirun" -np 1 program
expect_status 75 "a signal to the script"
expect "a signal ends the job at once ($seconds s)" test "$seconds" -lt 20

verdict
