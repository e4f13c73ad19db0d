# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# To be sourced by a script that must not leave a process behind, however it ends.
#
# Whatever the script starts inherits this variable, which is how it is found again, also after it
# has lost its parent. The script itself does not carry it: /proc shows the environment of the start.
export SYNCBN_STARTED_BY="${BASH_SOURCE[1]##*/} $$ $EPOCHREALTIME"

# Sets `left` to the process numbers. The search itself does not carry the variable.
find_left() {
  mapfile -t left < <(env -u SYNCBN_STARTED_BY \
    grep -lszxF "SYNCBN_STARTED_BY=$SYNCBN_STARTED_BY" /proc/[0-9]*/environ)
  left=("${left[@]#/proc/}")
  left=("${left[@]%/environ}")
}

# contained COMMAND...: runs it, without input, and returns its exit status. A signal to the script
# ends the command first: a bash that waits in the foreground would not look at the signal.
contained() {
  local status passed=-1
  set -m  # a process group of its own
  "$@" < /dev/null &
  contained_pid=$!
  set +m
  # A signal that is passed on ends the wait, but not the command.
  while ((passed != ${#passed_on[@]})); do
    passed=${#passed_on[@]} status=0
    wait "$contained_pid" || status=$?
  done
  contained_pid=
  return "$status"
}

# pass_on SIGNAL...: has the contained command get these signals, which the script then survives.
# They are added to `passed_on`.
pass_on() {
  local signal
  for signal in "$@"; do
    # shellcheck disable=SC2064  # the signal's name is of now
    trap "pass_on_now $signal" "$signal"
  done
}
passed_on=()

pass_on_now() {
  passed_on+=("$1")
  [[ -z ${contained_pid:-} ]] || kill "-$1" "$contained_pid" 2> /dev/null || true
}

# The command is asked to end, so that mpirun can end its ranks. What is there five seconds later,
# or is left when the command has ended, is killed, and seen to be gone.
end_everything() {
  local left
  if [[ -n ${contained_pid:-} ]]; then
    kill -TERM -- "-$contained_pid" 2> /dev/null || true
    for _ in {1..50}; do
      kill -0 "$contained_pid" 2> /dev/null || break
      sleep 0.1
    done
  fi
  for _ in {1..50}; do
    find_left
    ((${#left[@]})) || break
    kill -KILL "${left[@]}" 2> /dev/null || true
    sleep 0.1
  done
}

trap end_everything EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
