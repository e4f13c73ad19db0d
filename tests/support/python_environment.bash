# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# To be sourced by a script that installs Python packages for tests, once for all builds and checkouts.
cache=${SYNCBN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/syncbn}

fail() {
  echo "environment: $*" >&2
  exit 1
}

# The line is kept for the tests, which ask whether the environment is installed.
skip() {
  echo "SKIPPED: $*" | tee "$target.missing"
  exit 77
}

finish_if_installed() {
  if [[ -e $target/complete ]]; then
    echo "$python"
    exit 0
  fi
}

# environment NAME WHAT DIRECTORY [ARGUMENT]: prints the path of the python of an environment that has what
# requirements.txt, and requirements_alone.txt if there is one, in the directory name. The environment is in
# the cache, by a name that begins with NAME; messages call its contents WHAT. The argument is that of the
# script: --help, --installed, or none.
environment() {
  local name=$1 contents=$2 directory=$3 what key lock log start install=yes
  case ${4:-} in
    '') ;;
    --installed) install= ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; fail "unknown argument '$4'" ;;
  esac
  what=$(python3 -c 'import sys; print(sys.executable, sys.version)' 2> /dev/null || echo 'no Python')
  key=$({ cat "$directory"/requirements*.txt; echo "$what"; } | sha256sum)
  target=$cache/$name-${key:0:12}
  python=$target/bin/python

  finish_if_installed
  if [[ -z $install ]]; then
    cat "$target.missing" 2> /dev/null ||
      echo "SKIPPED: $contents is not installed (tests/$name/environment installs it)."
    exit 77
  fi
  mkdir -p "$cache"
  # Another checkout may be installing it at the moment. The lock ends with its owner.
  exec {lock}> "$target.lock"
  flock "$lock"
  finish_if_installed
  rm -f "$target.missing"
  start=$SECONDS
  log=$target.log
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null ||
    skip "$contents takes Python 3.11 or newer (there is: ${what#* })."
  # What an interrupted installation left is cleared away.
  python3 -m venv --clear "$target" > "$log" 2>&1 ||
    skip "there is no Python with venv, to install $contents with ($(tail -n 1 "$log"))."
  install=("$target/bin/pip" install --no-input --disable-pip-version-check --retries 2)
  { "${install[@]}" --requirement "$directory/requirements.txt" &&
    { [[ ! -e $directory/requirements_alone.txt ]] ||
      "${install[@]}" --no-deps --requirement "$directory/requirements_alone.txt"; }; } >> "$log" 2>&1 ||
    skip "pip could not install $contents ($(tail -n 1 "$log"))."
  touch "$target/complete"
  echo "Installed $contents in $((SECONDS - start)) s, $(du -sh "$target" | cut -f 1)."
  echo "$python"
}
