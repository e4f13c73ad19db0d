# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# To be sourced behind hosts.bash: Slurm on the hosts, with its controller on host1, and jobs on it.
# shellcheck disable=SC2154  # hosts and hosts_state are set there
slurm_state=$hosts_state/slurm
export SLURM_CONF=$slurm_state/slurm.conf

require_slurm() {
  local program
  for program in munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client; do
    command -v "${program%:*}" > /dev/null || [[ -x /usr/sbin/${program%:*} ]] ||
      skip "there is no ${program%:*} (Debian's package ${program#*:})."
  done
}

# start_slurm: on all hosts that were raised, one processor each.
start_slurm() {
  local host
  mkdir -p "$slurm_state/munge" "$slurm_state/controller"
  configure_slurm
  head -c 128 /dev/urandom > "$slurm_state/munge/key"
  chmod 600 "$slurm_state/munge/key"
  # Not a daemon of the machine's: its key, socket and log are here.
  on 1 /usr/sbin/munged --force --key-file="$slurm_state/munge/key" \
    --socket="$slurm_state/munge/socket" --pid-file="$slurm_state/munge/pid" \
    --log-file="$slurm_state/munge/log" --seed-file="$slurm_state/munge/seed" --num-threads=2
  on 1 /usr/sbin/slurmctld -c
  for host in $(seq "$hosts"); do
    mkdir -p "$slurm_state/spool/host$host" "$slurm_state/tmp/host$host"
    on "$host" /usr/sbin/slurmd -N "host$host"
  done
  wait_until 60 all_idle || fail "Slurm did not start: $(on 1 sinfo 2>&1) $(slurm_logs)"
}

# TmpFS and SlurmdSpoolDir have a directory for each host, as the hosts share their files. A job that
# is queued again starts when its old credential has expired, by default after two minutes.
configure_slurm() {
  cat > "$SLURM_CONF" <<CONFIG
ClusterName=hosts
SlurmctldHost=host1
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$slurm_state/munge/socket,cred_expire=5
StateSaveLocation=$slurm_state/controller
SlurmdSpoolDir=$slurm_state/spool/%n
TmpFS=$slurm_state/tmp/%n
SlurmctldPidFile=$slurm_state/controller.pid
SlurmdPidFile=$slurm_state/slurmd.%n.pid
SlurmctldLogFile=$slurm_state/controller.log
SlurmdLogFile=$slurm_state/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
KillWait=10
MailProg=/bin/true
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=host[1-$hosts] CPUs=1 State=UNKNOWN
PartitionName=usual Nodes=ALL PriorityTier=1 Default=YES State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 State=UP
CONFIG
}

all_idle() { [[ $(on 1 sinfo --noheader --Node --partition=usual --states=idle --format=%N | wc -l) == "$hosts" ]]; }

slurm_logs() { tail -n 5 "$slurm_state"/*.log; }

# submit BATCH_FILE OPTION...: as a user who stands at the top of the checkout, but with the job's
# files in $work. Sets `job` to its number.
# shellcheck disable=SC2154  # work is of training.bash
submit() {
  # shellcheck disable=SC2034  # for whoever sources this
  job=$(cd "$hosts_directory/../.." && on 1 sbatch --parsable --chdir="$work" "$@") ||
    fail "sbatch $1 failed. $(slurm_logs)"
}

# state_of JOB: such as RUNNING; "" if Slurm has forgotten it.
state_of() { on 1 squeue --noheader --states=all --jobs="$1" --format=%T; }

has_ended() { [[ ! $(state_of "$1") =~ ^(PENDING|CONFIGURING|RUNNING|COMPLETING|REQUEUED)$ ]]; }

# ends_well JOB: and what it printed goes to `printed`.
ends_well() {
  wait_until "$job_limit" has_ended "$1" ||
    fail "job $1 is still $(state_of "$1") after $job_limit s. $(output_of "$1") $(slurm_logs)"
  printed=$(output_of "$1")
  [[ $(state_of "$1") == COMPLETED ]] || fail "job $1 is $(state_of "$1"). $printed $(slurm_logs)"
}

output_of() { cat "$work/slurm-$1.out"; }
