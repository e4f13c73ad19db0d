# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# To be sourced behind hosts.bash: training runs over the hosts, and what is expected of them.
# shellcheck disable=SC2154  # set there
work=$hosts_state/work

prepare_training() {
  mkdir -p "$work"
  # shellcheck disable=SC2154  # set there
  "$programs/hosts_write_data_set" "$work/data"
}

# The run that everything is compared with. An epoch of it is 15 steps.
training=("$programs/syncbn" train --data "$work/data" --batch-size 40 --schedule constant
  --learning-rate 0.01)

# train_alone NAME OPTION...: one process, losses to NAME.jsonl.
train_alone() {
  local name=$1
  shift
  OMP_NUM_THREADS=1 "${training[@]}" --log "$work/$name.jsonl" "$@" > "$work/$name.out" 2>&1 ||
    fail "one process: $(cat "$work/$name.out")"
}

# train HOSTS RANKS NAME OPTION...: the same over hosts. Its standard output goes to NAME.out, with
# what mpirun says; each rank's standard error to NAME.rankR, past mpirun, which may not live to
# tell it.
train() {
  local hosts=$1 ranks=$2 name=$3
  shift 3
  # shellcheck disable=SC2016  # expanded by each rank
  job "$hosts" "$ranks" bash -c 'exec 2> "$0.rank$OMPI_COMM_WORLD_RANK" "$@"' "$work/$name" \
    "${training[@]}" --log "$work/$name.jsonl" "$@" > "$work/$name.out" 2>&1
}

# wait_for_step NAME STEP: until the run has logged it.
wait_for_step() {
  wait_until 30 reached "$@" || fail "step $2 was not reached. $(outputs "$1")"
}

reached() { (($(losses "$1" | wc -l) >= $2)); }

outputs() {
  tail -n 20 "$work/$1.out" "$work/$1".rank*
}

# losses NAME: "step loss" lines.
losses() {
  sed -nE 's/^\{"step":([0-9]+),.*"loss":([^,}]+).*/\1 \2/p' "$work/$1.jsonl"
}

# largest_difference NAME OTHER: of the losses of the steps that both have, relative; and how many
# those are.
largest_difference() {
  join <(losses "$1" | sort -k 1,1) <(losses "$2" | sort -k 1,1) | awk '
    { d = ($2 - $3) / $3; d = d < 0 ? -d : d; if (d > worst) worst = d }
    END { printf "%.1e %d\n", worst, NR }'
}

# same_losses NAME OTHER STEPS: whether both have STEPS steps in common, with the same losses up to
# rounding. Sets `difference`. oneDNN's products of matrices may round a sample's outputs to float by
# how many samples there are: on AVX2, after 1,000 steps, losses were 1e-5 apart. With batch norm of
# each rank's own they are 5e-4 apart after one step and 3e-2 after 15.
same_losses() {
  local common
  read -r difference common < <(largest_difference "$1" "$2")
  ((common == $3)) && awk -v difference="$difference" 'BEGIN { exit !(difference < 1e-4) }'
}

expect_same_losses() {
  same_losses "$@" || fail "the losses of $1 and $2 differ by $difference, or are not of the same" \
    "$3 steps: $(losses "$1" | wc -l) and $(losses "$2" | wc -l)."
}
