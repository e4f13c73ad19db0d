# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# To be sourced by a script that needs several hosts and has one machine.
#
# A host is a set of namespaces: network, host name, processes, mounts, System V IPC. What MPI goes
# by when it tells hosts apart is its own: name, addresses, /dev/shm, process numbers, an sshd as
# process 1. Files are shared, as they are on a cluster.
#
# The script itself runs once more, inside namespaces that are the room in which the hosts stand:
# the cables end in that network namespace, where nothing else is. So two runs cannot meet, the
# machine's own network is not touched, and when the script ends, however it ends, the kernel ends
# every process of every host, removes the interfaces and unmounts what was mounted.
hosts_directory=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
hosts_state=/run/hosts  # a tmpfs of the room's
hosts_network=10.77.0
skipped=77              # exit status that CTest counts as skipped
programs=${SYNCBN_BIN:-$hosts_directory/../../build/release/bin}

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

skip() {
  echo "SKIPPED: $*"
  exit "$skipped"
}

# Outside a room, runs the script in one, and ends with it. Inside, returns. Skips where the machine
# does not allow it.
enter_room() {
  local program status=0 refusal
  if [[ -n ${SYNCBN_HOSTS_ROOM:-} ]]; then
    furnish_room
    return
  fi
  ((EUID == 0)) || skip "hosts of network namespaces take root."
  for program in ip:iproute2 tc:iproute2 ssh:openssh-client ssh-keygen:openssh-client \
    /usr/sbin/sshd:openssh-server unshare:util-linux nsenter:util-linux setpriv:util-linux \
    mpirun:openmpi-bin; do
    command -v "${program%:*}" > /dev/null ||
      skip "there is no ${program%:*} (Debian's package ${program#*:})."
  done
  mpirun --version 2>&1 | grep -q '(Open MPI) 4\.' ||
    skip "mpirun is not Open MPI 4's, whose options these hosts are used with."
  refusal=$(unshare "${room_namespaces[@]}" unshare --net "${host_namespaces[@]}" \
    sh -c 'mount -t tmpfs tmpfs /run && nsenter --target 1 --mount true' 2>&1) ||
    skip "no namespaces can be made here ($refusal)."
  refusal=$(unshare --net sh -c 'ip link add bridge type bridge &&
    ip link add end type veth peer name other' 2>&1) ||
    skip "no bridge or veth pair can be made here ($refusal)."

  # shellcheck source=launcher/processes.bash
  source "$hosts_directory/../../launcher/processes.bash"
  SYNCBN_HOSTS_ROOM=yes contained setpriv --pdeathsig KILL \
    unshare "${room_namespaces[@]}" "$0" "$@" || status=$?
  exit "$status"
}

# Killed with its parent, which the kernel sees to; process 1 takes all others along.
room_namespaces=(--net --mount --ipc --pid --fork --kill-child --mount-proc)
host_namespaces=(--uts --mount --ipc --pid --fork --kill-child --mount-proc)

furnish_room() {
  # As process 1 the script would not be ended by signals that it does not name.
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  mount -t tmpfs tmpfs /run
  mkdir -p /run/netns /run/sshd "$hosts_state/tmp"
  ip link set lo up
}

# --- hosts ----------------------------------------------------------------------------------------

# raise_hosts N [SWITCH_OPTION...]: host1 to hostN on one Ethernet, and an sshd on each. The Ethernet
# is the kernel's bridge, with options the switch of switch.cpp.
raise_hosts() {
  local host
  hosts=$1
  shift
  make_keys_and_names
  for host in $(seq "$hosts"); do
    start_host "$host"
  done
  if (($#)); then
    lay_cables_to_switch "$@"
  else
    lay_cables_to_bridge
  fi
  for host in $(seq "$hosts"); do
    ip -n "host$host" address add "$hosts_network.$host/24" dev eth0
    ip -n "host$host" link set eth0 up
  done
}

make_keys_and_names() (
  cd "$hosts_state" || exit
  ssh-keygen -q -t ed25519 -N '' -f host_key
  ssh-keygen -q -t ed25519 -N '' -f user_key
  echo "127.0.0.1 localhost" > names
  for host in $(seq "$hosts"); do
    echo "$hosts_network.$host host$host" >> names
    echo "host$host,$hosts_network.$host $(cut -d ' ' -f 1,2 host_key.pub)" >> known_hosts
  done
  # Alive for longer than mpirun waits, whose word on a lost host is better than what it says when
  # its ssh has ended. Then nothing of them stays behind on either side of a cut.
  cat > ssh_config <<CONFIG
User root
IdentityFile $hosts_state/user_key
IdentitiesOnly yes
UserKnownHostsFile $hosts_state/known_hosts
StrictHostKeyChecking yes
BatchMode yes
ConnectTimeout 10
ServerAliveInterval 5
ServerAliveCountMax 3
LogLevel ERROR
CONFIG
  cat > sshd_config <<CONFIG
HostKey $hosts_state/host_key
AuthorizedKeysFile $hosts_state/user_key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
ClientAliveInterval 3
ClientAliveCountMax 2
PrintMotd no
CONFIG
  # Without PAM sshd refuses a locked account, which root is on some systems.
  echo 'root:*:19000:0:99999:7:::' > shadow
  mount --bind shadow /etc/shadow
)

# start_host I: the host, with the loopback alone, and sshd. For tcp_retries2 see mpirun_options.
start_host() {
  local name=host$1
  touch "/run/netns/$name"  # where ip looks for it by name
  # shellcheck disable=SC2016  # expanded in there
  unshare --net="/run/netns/$name" "${host_namespaces[@]}" bash -euc 'hostname "$1"
      mount --bind "$2/names" /etc/hosts
      mount -t tmpfs tmpfs /dev/shm
      mount -t tmpfs tmpfs "$2/tmp"
      ip link set lo up
      echo 4 > /proc/sys/net/ipv4/tcp_retries2
      exec /usr/sbin/sshd -D -e -f "$2/sshd_config"' \
    start "$name" "$hosts_state" < /dev/null 2> "$hosts_state/$name.log" &
  wait_until 10 grep -q listening "$hosts_state/$name.log" ||
    fail "$name did not start: $(cat "$hosts_state/$name.log")"
  first_process[$1]=$(for process in $(ip netns pids "$name"); do
    grep -lE '^NSpid:.*\s1$' "/proc/$process/status" | grep -oE '[0-9]+'
  done)
}
first_process=()  # of each host, sshd: 1 there, and here

lay_cables_to_bridge() {
  local host
  ip link add bridge type bridge
  ip link set bridge up
  for host in $(seq "$hosts"); do
    ip link add "port$host" type veth peer name eth0 netns "host$host"
    # Without addresses of IPv6, whose announcements would be counted as traffic.
    ip -n "host$host" link set eth0 addrgenmode none
    ip link set "port$host" master bridge addrgenmode none up
  done
}

# The switch holds one end of each cable, the other is the host's interface.
lay_cables_to_switch() {
  local host refusal
  [[ -x $programs/hosts_switch ]] || fail "$programs/hosts_switch is not built."
  refusal=$("$programs/hosts_switch" --probe 2>&1) || skip "no TAP interface can be made ($refusal)."
  "$programs/hosts_switch" --ports "$hosts" "$@" \
    > "$hosts_state/switch.log" 2>&1 &
  switch_process=$!
  wait_until 10 grep -q ready "$hosts_state/switch.log" ||
    fail "no switch: $(cat "$hosts_state/switch.log")"
  for host in $(seq "$hosts"); do
    ip link set "port$host" addrgenmode none
    ip link set "port$host" netns "host$host" name eth0
  done
}

# Ends the switch. Sets switch_counts to what it says: "forwarded N lost N overflowed N cut N".
stop_switch() {
  kill "$switch_process"
  wait "$switch_process" || fail "the switch failed: $(cat "$hosts_state/switch.log")"
  # shellcheck disable=SC2034  # for whoever sources this
  switch_counts=$(tail -n 1 "$hosts_state/switch.log")
}

# on I COMMAND...: runs it on host I, as a user who is logged in there.
on() {
  local host=$1
  shift
  nsenter --target "${first_process[$host]}" --net --uts --mount --ipc --pid --wd="$PWD" "$@"
}

# sent_by I: bytes that left host I since it was raised.
sent_by() {
  local line
  line=$(on "$1" grep eth0: /proc/self/net/dev) || fail "host$1 has no interface."
  read -ra line <<< "${line#*:}"
  echo "${line[8]}"
}

# limit_bandwidth MBIT: of what each host sends, by the kernel's token bucket.
limit_bandwidth() {
  local host refusal
  for host in $(seq "$hosts"); do
    refusal=$(tc -n "host$host" qdisc add dev eth0 root tbf rate "$1mbit" burst 32kb \
      latency 50ms 2>&1) || skip "this kernel has no tc tbf ($refusal)."
  done
}

# --- jobs -----------------------------------------------------------------------------------------

# What mpirun needs here. A rank that waits has to yield: each host believes that it has all the
# cores to itself. The addresses are those of the one Ethernet; with more than one network between
# the hosts Open MPI would have to be told.
#
# Its files of a job are named by host and process number, which two runs may have in common: each
# host has a directory of its own for them.
#
# And what it takes for Open MPI 4.1 to end when a link is cut, which it would wait for until
# somebody kills it. It takes two, because TCP looks after a silent connection and after one with
# unacknowledged data in different ways, and mpirun must notice in both states:
#   - It has nothing to say, as long as the ranks wait for each other. Keepalive finds out, after 4 s
#     and two probes 2 s apart. Open MPI's own 300 s, and nine 20 s apart, are 8 min.
#   - A rank reached its deadline first and called MPI_Abort. mpirun has sent all daemons the order
#     to end, and waits for the one that cannot hear it. No keepalive is sent while data are on the
#     way: the kernel repeats these 15 times, in 15 minutes. net.ipv4.tcp_retries2 = 4 on the hosts
#     makes that some 6 s.
# shellcheck disable=SC2054  # Open MPI's lists have commas
mpirun_options=(
  --allow-run-as-root
  --mca plm_rsh_agent "ssh -F $hosts_state/ssh_config"
  --mca orte_tmpdir_base "$hosts_state/tmp"
  --mca btl tcp,vader,self
  --mca btl_tcp_if_include "$hosts_network.0/24"
  --mca oob_tcp_if_include "$hosts_network.0/24"
  --mca oob_tcp_keepalive_time 4
  --mca oob_tcp_keepalive_intvl 2
  --mca oob_tcp_keepalive_probes 2
  --mca mpi_yield_when_idle 1
  --bind-to none
  -x OMP_NUM_THREADS=1
)

# job HOSTS RANKS COMMAND...: mpirun of the command on host1, over the first HOSTS hosts with RANKS
# ranks each. The net below it all: after job_limit seconds it is killed, with 124 or 137 for exit
# status. Open MPI, when it hangs, does not always hear SIGTERM.
job_limit=60
job() {
  local count=$1 ranks=$2 list
  shift 2
  list=$(for host in $(seq "$count"); do echo -n "host$host:$ranks,"; done)
  OMP_NUM_THREADS=1 on 1 timeout -k 3 "$job_limit" mpirun "${mpirun_options[@]}" \
    --host "${list%,}" -n $((count * ranks)) "$@" < /dev/null
}

# wait_until SECONDS COMMAND...: whether the command succeeds before that.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@" 2> /dev/null; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}
