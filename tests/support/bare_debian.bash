# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# To be sourced, after launcher/processes.bash, by a script that needs a Debian with nothing installed,
# of the release of this machine. Takes root.

# debian_archive SUFFIX: prints where apt has this machine's release of Debian from ("") or its updates
# (-security); nothing where there is none.
debian_archive() (
  suffix=$1
  # shellcheck source=/dev/null
  . /etc/os-release
  [[ ${ID:-} == debian ]] || exit 0
  # shellcheck disable=SC2016  # apt's variables
  apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 2> /dev/null |
    awk -v release="$VERSION_CODENAME$suffix" '$2 == release && $3 == "main" { print $1; exit }'
)

# why_no_debian: prints why none can be made here; nothing if one can.
why_no_debian() {
  if ((EUID != 0)); then
    echo "a Debian in a directory takes root."
  elif ! command -v debootstrap > /dev/null; then
    echo "there is no debootstrap (Debian's package debootstrap)."
  elif [[ -z $(debian_archive "") ]]; then
    echo "this machine is no Debian, or apt has no archive of it."
  fi
}

# make_debian DIRECTORY: fills it. Fails with what debootstrap said last.
make_debian() {
  local archive log=$1.log
  archive=$(debian_archive "")
  contained debootstrap --variant=minbase "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$1" "$archive" \
    > "$log" 2>&1 || { tail -n 3 "$log"; return 1; }
  # As this machine reaches the archive.
  cp -L /etc/resolv.conf "$1/etc/resolv.conf"
  cp -r /etc/apt/apt.conf.d "$1/etc/apt/"
}
