#!/usr/bin/env bash
# cluster_up.sh: a Slurm cluster of $NODES nodes with eight L4 each, on this one machine; nodes, GPUs and sizes are pretended.
# Needs root and, from Debian, slurm-wlm, munge, openssh-server. Everything is kept below $BASE, and listens on 127.0.0.1 alone.
set -euo pipefail
: "${BASE:?directory of the whole cluster}" "${NODES:=2}" "${CLUSTER_USER:=memexp-e2e}" "${SSH_PORT:=2222}"
here="$(cd "$(dirname "$0")" && pwd)"
host="$(hostname -s)"
user_home="$BASE/home"

mkdir -p "$BASE"/{etc,run,log,state,ssh,opt,nodetmp}
chmod 755 "$BASE" "$BASE"/*
id "$CLUSTER_USER" >/dev/null 2>&1 || useradd -M -d "$user_home" -s /bin/bash "$CLUSTER_USER"
usermod -p '*' "$CLUSTER_USER" # an account that is "locked" (!) is refused by an sshd without PAM
mkdir -p "$user_home" "$BASE/uv_cache"
chown "$CLUSTER_USER" "$user_home" "$BASE/uv_cache"

# munge: how the daemons of Slurm know each other.
[ -s "$BASE/etc/munge.key" ] || dd if=/dev/urandom of="$BASE/etc/munge.key" bs=1 count=1024 status=none
chmod 600 "$BASE/etc/munge.key"
/usr/sbin/munged --force --key-file="$BASE/etc/munge.key" --socket="$BASE/run/munge.sock" --num-threads=4 \
  --pid-file="$BASE/run/munged.pid" --log-file="$BASE/log/munged.log" --seed-file="$BASE/run/munge.seed"

# Slurm. NoInAddrAny keeps the daemons off every address but the one that is named; config_overrides makes them believe the sizes.
cat >"$BASE/etc/slurm.conf" <<CONF
ClusterName=loop
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$BASE/run/munge.sock
CryptoType=crypto/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile=$BASE/run/slurmctld.pid
SlurmdPidFile=$BASE/run/slurmd-%n.pid
SlurmctldLogFile=$BASE/log/slurmctld.log
SlurmdLogFile=$BASE/log/slurmd-%n.log
StateSaveLocation=$BASE/state
SlurmdSpoolDir=$BASE/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
MinJobAge=300
KillWait=5
UnkillableStepTimeout=60
InactiveLimit=0
TaskProlog=$BASE/etc/task_prolog.sh
CONF
: >"$BASE/etc/gres.conf"
cp /etc/hosts "$BASE/etc/hosts"
for node in $(seq 1 "$NODES"); do
  # Eight empty files are the GPUs: without File= Slurm's plugin counts none.
  mkdir -p "$BASE/dev/gpu$node"
  for gpu in 0 1 2 3 4 5 6 7; do : >"$BASE/dev/gpu$node/gpu$gpu"; done
  cat >>"$BASE/etc/slurm.conf" <<CONF
NodeName=gpu$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((16817 + node)) CPUs=64 Boards=1 SocketsPerBoard=1 CoresPerSocket=64 ThreadsPerCore=1 RealMemory=524288 Gres=gpu:L4:8 State=UNKNOWN
CONF
  echo "NodeName=gpu$node Name=gpu Type=L4 File=$BASE/dev/gpu$node/gpu[0-7]" >>"$BASE/etc/gres.conf"
  echo "127.0.0.1$node gpu$node" >>"$BASE/etc/hosts" # SkyPilot looks nodes up by name
done
echo "PartitionName=gpu Nodes=gpu[1-$NODES] Default=YES MaxTime=24:00:00 State=UP" >>"$BASE/etc/slurm.conf"
chmod 644 "$BASE"/etc/*.conf "$BASE/etc/hosts"

# What SkyPilot would download onto a node is put in place by task_prolog.sh: uv, and a Python that every user may run.
cp "$(command -v "${UV:-uv}")" "$BASE/opt/uv"
chmod 755 "$BASE/opt/uv"
sed -e "s#__BASE__#$BASE#g" -e "s#__USER__#$CLUSTER_USER#g" -e "s#__PYTHON__#$NODE_PYTHON#g" \
  "$here/task_prolog.sh" >"$BASE/etc/task_prolog.sh"
chmod 755 "$BASE/etc/task_prolog.sh"
touch "$BASE/log/task_prolog.log"
chown "$CLUSTER_USER" "$BASE/log/task_prolog.log"

export SLURM_CONF="$BASE/etc/slurm.conf"
/usr/sbin/slurmctld -f "$SLURM_CONF"
for node in $(seq 1 "$NODES"); do
  # A mount namespace for each: SkyPilot's runtime directory and /etc/hosts are the node's own.
  mkdir -p "$BASE/spool-gpu$node" "$BASE/nodetmp-gpu$node"
  chown "$CLUSTER_USER" "$BASE/nodetmp-gpu$node"
  unshare --mount bash -c "mount --bind '$BASE/etc/hosts' /etc/hosts && \
    mount --bind '$BASE/nodetmp-gpu$node' '$BASE/nodetmp' && exec /usr/sbin/slurmd -f '$SLURM_CONF' -N gpu$node"
done

# sshd: the cluster's login node.
mkdir -p /run/sshd
[ -f "$BASE/ssh/host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$BASE/ssh/host_key"
[ -f "$BASE/ssh/client_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$BASE/ssh/client_key" -C memexp-e2e
cp "$BASE/ssh/client_key.pub" "$BASE/ssh/authorized_keys"
chmod 644 "$BASE/ssh/authorized_keys"
cat >"$BASE/ssh/sshd_config" <<CONF
ListenAddress 127.0.0.1
Port $SSH_PORT
HostKey $BASE/ssh/host_key
PidFile $BASE/run/sshd.pid
AuthorizedKeysFile $BASE/ssh/authorized_keys %h/.ssh/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers $CLUSTER_USER
PermitRootLogin no
MaxStartups 200
MaxSessions 200
Subsystem sftp internal-sftp
SetEnv SLURM_CONF=$BASE/etc/slurm.conf SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
CONF
/usr/sbin/sshd -f "$BASE/ssh/sshd_config" -E "$BASE/log/sshd.log"
for _ in $(seq 120); do
  if [ "$(sinfo -h -t idle -o %D)" = "$NODES" ]; then break; fi
  sleep 0.5
done
sinfo -N -o '%N %t %c %m %G %P'
[ "$(sinfo -h -t idle -o %D)" = "$NODES" ]
