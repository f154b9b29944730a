#!/usr/bin/env bash
# A real SLURM on a bare Debian machine, for the tests marked `slurm`: munge, MariaDB, slurmdbd, slurmctld and slurmd,
# without systemd and without cgroup delegation.
#
#     sudo tests/slurm/cluster.sh start              install what is missing (apt) and start what is not running
#     sudo tests/slurm/cluster.sh start --nodes 3    the same with three nodes, n1 to n3: a slurmd each, at its own port;
#                                                    without --nodes as many as run, or one
#     sudo tests/slurm/cluster.sh status             one line a daemon, then sinfo; exit status 1 unless all of it runs
#     sudo tests/slurm/cluster.sh stop               cancel all jobs and stop the daemons; accounting data stays
#
# `start` may be repeated. Everything lives in $SLURM_TEST_HOME (default /var/lib/slurm-one-node: configuration, keys,
# data base, logs) except one link, /etc/slurm/slurm.conf, by which sbatch and its like find the configuration; where a
# file of somebody else stands there, the script refuses. To be rid of it all: stop, then delete that folder and the link.
set -euo pipefail

home=${SLURM_TEST_HOME:-/var/lib/slurm-one-node}
link=/etc/slurm/slurm.conf
database_port=13306
node_port=27000 # and the node's number
verb=${1:-}
use="use: cluster.sh start [--nodes N]|stop|status"

fail() { echo "cluster.sh: $*" >&2; exit 1; }

# Is the daemon of this pid file alive, and the program we mean? Pids are used again after a reboot. That of a node is
# slurmd.NODE; where there is one node, slurmd.
alive() { # NAME
    local pid
    pid=$(cat "$home/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] &&
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${1%%.*}" ]
}

# How many nodes run, 0 where none does.
running() {
    local name some=0
    for name in $(slurmds); do ! alive "$name" || some=1; done
    if [ $some = 1 ]; then slurmds | wc -l; else echo 0; fi
}

# The names of the nodes' daemons.
slurmds() {
    local node
    if [ "$(cat "$home/nodes" 2>/dev/null || echo 1)" = 1 ]; then
        echo slurmd
    else
        for node in $(seq "$(cat "$home/nodes")"); do echo "slurmd.n$node"; done
    fi
}

wait_for() { # SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until timeout 10 "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what did not come up; see $home/log"
        sleep 0.2
    done
}

install_packages() {
    local missing=()
    command -v munged >/dev/null || missing+=(munge)
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v sbatch >/dev/null || missing+=(slurm-wlm)
    command -v slurmdbd >/dev/null || missing+=(slurmdbd)
    command -v mariadbd >/dev/null || missing+=(mariadb-server)
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || fail "missing ${missing[*]}, and there is no apt-get to install them with"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}"
}

configure() {
    [ ! -e "$link" ] || [ "$(readlink -f "$link")" = "$(readlink -f "$home")/slurm.conf" ] ||
        fail "$link exists and is not ours: this machine has a SLURM of its own, use that one"
    mkdir -p "$home"/{run,log,state,spool,database,munge} /etc/slurm
    local before
    before=$(running)
    nodes=${nodes:-${before/#0/1}}
    [ "$before" = 0 ] || [ "$before" = "$nodes" ] || fail "a cluster of $before nodes runs; stop it first"
    echo "$nodes" >"$home/nodes"
    chmod 755 "$home" "$home/munge"
    chown munge: "$home/munge"
    chown mysql: "$home/database"

    if [ ! -s "$home/munge/key" ]; then
        head -c 1024 /dev/urandom >"$home/munge/key"
        chown munge: "$home/munge/key"
        chmod 400 "$home/munge/key"
    fi

    local host cpus memory node each lines timeout
    host=$(hostname -s)
    # Four slots whatever the machine has (config_overrides), so that arrays and dependencies have something to do; of
    # several nodes each has two.
    cpus=$(nproc)
    [ "$cpus" -ge 4 ] || cpus=4
    memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    if [ "$nodes" -eq 1 ]; then
        each="" timeout=300
        lines="NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN"
    else
        each=".%n" timeout=20
        lines=$(for node in $(seq "$nodes"); do
            mkdir -p "$home/spool/n$node"
            echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((node_port + node)) CPUs=2" \
                "RealMemory=$((memory / nodes)) State=UNKNOWN"
        done)
    fi

    cat >"$home/slurm.conf" <<CONF
ClusterName=onenode
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job may not start before its first credential has expired (120 s unless told).
AuthInfo=socket=$home/munge/socket,cred_expire=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
# Not a password: with munge, the socket by which the accounting daemon's clients are authenticated.
AccountingStoragePass=$home/munge/socket
ReturnToService=2
JobRequeue=1
KillWait=5
MpiDefault=none
SwitchType=switch/none
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool${each:+/%n}
# How long a node may give no answer until its jobs are queued again, on others.
SlurmdTimeout=$timeout
SlurmctldPidFile=$home/run/slurmctld.pid
SlurmdPidFile=$home/run/slurmd$each.pid
SlurmctldLogFile=$home/log/slurmctld.log
SlurmdLogFile=$home/log/slurmd$each.log
$lines
# Jobs of lent make room for those of main: told by SIGTERM, ended five seconds later, queued again.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerCPU=512 PriorityTier=2 PreemptMode=OFF State=UP
PartitionName=lent Nodes=ALL MaxTime=INFINITE DefMemPerCPU=512 PriorityTier=1 GraceTime=5 State=UP
CONF
    cat >"$home/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
DbdHost=$host
DbdAddr=127.0.0.1
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$database_port
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
LogFile=$home/log/slurmdbd.log
PidFile=$home/run/slurmdbd.pid
CONF
    chmod 600 "$home/slurmdbd.conf"
    # slurmdbd looks for its configuration beside slurm.conf.
    ln -sfn "$home/slurm.conf" "$link"
}

start() {
    export SLURM_CONF="$home/slurm.conf"
    if ! alive munged; then
        rm -f "$home/munge/socket"
        runuser -u munge -- munged --key-file="$home/munge/key" --socket="$home/munge/socket" \
            --log-file="$home/munge/log" --pid-file="$home/munge/pid" --seed-file="$home/munge/seed"
        wait_for 10 munged test -s "$home/munge/pid"
        cp "$home/munge/pid" "$home/run/munged.pid"
    fi
    wait_for 10 munged bash -c "munge -n -S '$home/munge/socket' | unmunge -S '$home/munge/socket'"

    if ! alive mariadbd; then
        [ -d "$home/database/mysql" ] ||
            mariadb-install-db --no-defaults --user=mysql --datadir="$home/database" --skip-test-db \
                --auth-root-authentication-method=normal >"$home/log/database.log" 2>&1
        setsid mariadbd --no-defaults --user=mysql --datadir="$home/database" --socket="$home/database/socket" \
            --pid-file="$home/database/pid" --bind-address=127.0.0.1 --port=$database_port \
            --innodb-lock-wait-timeout=900 </dev/null >>"$home/log/database.log" 2>&1 &
        wait_for 60 mariadbd mariadb-admin --no-defaults --socket="$home/database/socket" ping
        cp "$home/database/pid" "$home/run/mariadbd.pid"
        mariadb --no-defaults --socket="$home/database/socket" -e "
            CREATE DATABASE IF NOT EXISTS slurm_acct;
            CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
            CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurm';
            GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1', 'slurm'@'localhost';"
    fi

    alive slurmdbd || slurmdbd
    wait_for 60 slurmdbd sacctmgr -n show cluster
    sacctmgr -n show cluster onenode format=cluster | grep -q onenode || sacctmgr -i add cluster onenode >/dev/null
    alive slurmctld || slurmctld
    wait_for 30 slurmctld bash -c "scontrol ping | grep -q UP"
    local name node
    for name in $(slurmds); do
        node=${name#slurmd} # "" or ".NODE"
        alive "$name" || slurmd ${node:+-N "${node#.}"}
    done
    # A node that was down when the controller last ran comes back by itself (ReturnToService); one that was drained
    # by a test that died does not.
    wait_for 30 "a node" bash -c "
        [ \$(sinfo -h -N -o '%N %T' -p main | grep -cE ' (idle|mixed|allocated)$') = $(slurmds | wc -l) ] ||
            { scontrol update nodename=ALL state=resume; false; }"
}

stop() {
    export SLURM_CONF="$home/slurm.conf"
    if alive slurmctld; then
        scancel --state=PENDING --user=root || true
        scancel --user=root || true
    fi
    local name pid
    for name in $(slurmds) slurmctld slurmdbd mariadbd munged; do # the ones that others lean on go last
        alive "$name" || continue
        pid=$(cat "$home/run/$name.pid")
        kill "$pid"
        for _ in $(seq 150); do
            alive "$name" || break
            sleep 0.2
        done
        alive "$name" && fail "$name (pid $pid) does not stop"
        rm -f "$home/run/$name.pid"
    done
}

status() {
    local name all=0
    for name in munged mariadbd slurmdbd slurmctld $(slurmds); do
        if alive "$name"; then echo "$name runs (pid $(cat "$home/run/$name.pid"))"; else echo "$name is down"; all=1; fi
    done
    [ $all -eq 0 ] && sinfo
    return $all
}

nodes=
if [ "$verb" = start ] && [ "${2:-}" = --nodes ]; then
    nodes=${3:-}
    [[ $nodes =~ ^[1-9][0-9]?$ ]] || fail "--nodes wants a number from 1 to 99; $use"
elif [ $# -ne 1 ]; then
    fail "$use"
fi
case $verb in
start | stop) [ "$(id -u)" -eq 0 ] || fail "$verb needs root" ;;
esac
case $verb in
start) install_packages && configure && start && status ;;
stop) stop ;;
status) status ;;
*) fail "$use" ;;
esac
