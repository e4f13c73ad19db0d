# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# To be sourced, after launcher/processes.bash, by a script that builds or runs containers. They are
# podman's and buildah's, as root, in a storage of their own.
containers_directory=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=tests/support/bare_debian.bash
source "$containers_directory/../support/bare_debian.bash"

skip() {
  echo "SKIPPED: $*"
  exit 77
}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# use_containers DIRECTORY: keeps images there from now on. Skips where the machine runs no containers.
use_containers() {
  local program reason
  reason=$(why_no_debian)
  [[ -z $reason ]] || skip "$reason"
  for program in podman:podman buildah:buildah runc:runc unshare:util-linux; do
    command -v "${program%:*}" > /dev/null ||
      skip "there is no ${program%:*} (Debian's package ${program#*:})."
  done
  mkdir -p "$1"
  storage=$(readlink -f "$1")
  # Limits above those of this process may not be allowed. What has runc can do without systemd and
  # version 2 of the control groups.
  cat > "$storage/containers.conf" <<END
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
[network]
network_backend = "netavark"
network_config_dir = "$storage/networks"
END
}

# in_storage podman|buildah ARGUMENT...: runs it with that storage.
in_storage() {
  local program=$1
  shift
  CONTAINERS_CONF=$storage/containers.conf \
    "$program" --root "$storage/images" --runroot "$storage/run" "$@"
}

# make_base NAME: makes an image of a bare Debian, unless there is one. Skips where that is not to be had.
make_base() {
  local root=$storage/base reason
  if in_storage podman image exists "$1"; then
    require_runs "$1"
    return
  fi
  rm -rf --one-file-system "$root"
  reason=$(make_debian "$root") || skip "debootstrap made no Debian: $reason"
  # As this machine trusts a proxy that is between it and PyPI.
  cp -r /usr/local/share/ca-certificates "$root/usr/local/share/" 2> /dev/null || true
  tar -C "$root" --numeric-owner -c . | in_storage podman import --quiet \
    --change "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt" - "$1" > /dev/null ||
    skip "podman takes no image here."
  rm -rf --one-file-system "$root"
  require_runs "$1"
}

require_runs() {
  in_storage podman run --rm --network none "$1" true > /dev/null 2> "$storage/refusal" ||
    skip "podman runs no container here: $(tail -n 1 "$storage/refusal")"
}
