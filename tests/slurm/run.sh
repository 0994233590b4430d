#!/usr/bin/env bash
# A SLURM of one node on this machine and one MLflow server: a sweep of four runs goes through submitit, then a run that is
# preempted and one that runs out of time are requeued and go on. By name, as root, minutes:
#
#     apt-get install -y --no-install-recommends slurm-wlm munge && tests/slurm/run.sh
#
# PYTHON names the interpreter, with `pip install -e ".[sweeps]"`. Everything it starts and writes is its own and goes with it.
set -euo pipefail
home=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python}
scratch=$(mktemp -d /tmp/rlseq-slurm.XXXXXX)
pids=()
stop() {
    local code=$?
    scancel -u "$(id -un)" 2>/dev/null || true
    for _ in $(seq 60); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 1; done       # jobs go before who runs them
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
    [ -z "${munged:-}" ] || kill "$munged" 2>/dev/null || true
    if [ $code -ne 0 ]; then
        echo "FAILED ($code); what was said:"
        tail -n 8 "$scratch"/*.log "$scratch"/work/runs/.submitit/*/*.err "$scratch"/work/runs/*/.submitit/*/*.err 2>/dev/null || true
    fi
    if [ -n "${KEEP:-}" ]; then echo "kept: $scratch"; else sleep 1; rm -rf "$scratch"; fi
}
trap stop EXIT
port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

# --- SLURM: keys, controller, node
host=$(hostname -s)
mkdir -p "$scratch"/{state,spool,work,artifacts} && chmod 755 "$scratch"
dd if=/dev/urandom of="$scratch/munge.key" bs=1024 count=1 status=none && chmod 600 "$scratch/munge.key"
munged --force --key-file="$scratch/munge.key" --socket="$scratch/munge.socket" --pid-file="$scratch/munged.pid" \
    --log-file="$scratch/munged.log" --seed-file="$scratch/munged.seed"
munged=$(cat "$scratch/munged.pid")
cat > "$scratch/slurm.conf" <<CONF
ClusterName=rlseq
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(port)
SlurmdPort=$(port)
SlurmUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$scratch/munge.socket,cred_expire=10
StateSaveLocation=$scratch/state
SlurmdSpoolDir=$scratch/spool
SlurmctldPidFile=$scratch/slurmctld.pid
SlurmdPidFile=$scratch/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
OverTimeLimit=1
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$scratch/slurm.conf
slurmctld -D > "$scratch/slurmctld.log" 2>&1 & pids+=($!)
slurmd -D -N "$host" > "$scratch/slurmd.log" 2>&1 & pids+=($!)
for _ in $(seq 60); do sinfo -h -o %T 2>/dev/null | grep -q idle && break; sleep 1; done
sinfo -h -o '%P %D node, %c CPUs, %T' || true
sinfo -h -o %T | grep -q idle
say "SLURM $(sinfo --version | cut -d' ' -f2) is up"

# --- one MLflow server for all
where=http://127.0.0.1:$(port)
(cd "$scratch" && exec "$python" -m mlflow server --host 127.0.0.1 --port "${where##*:}" --workers 1 \
    --backend-store-uri "sqlite:///$scratch/mlflow.db" --artifacts-destination "$scratch/artifacts") > "$scratch/mlflow.log" 2>&1 &
pids+=($!)
for _ in $(seq 120); do "$python" -c "import urllib.request as u; u.urlopen('$where/health', timeout=2)" 2>/dev/null && break; sleep 1; done
say "MLflow is up"

# --- a sweep of four runs
export MLFLOW_TRACKING_URI=$where PYTHONPATH=$home${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=1
cd "$scratch/work"
slurm=(hydra/launcher=submitit_slurm hydra.launcher.partition=main hydra.launcher.cpus_per_task=1)
tiny=(task=sort plan=smoke compare=null controls=false)
begun=$SECONDS
"$python" -m rlseq.run -m "${slurm[@]}" hydra.launcher.timeout_min=20 "${tiny[@]}" algo=mle,reinforce seed=0,1 \
    > "$scratch/sweep.log" 2>&1
say "a sweep of 4 runs took $((SECONDS - begun)) s"
"$python" "$home/tests/slurm/check.py" "$where" runs/smoke 4

# --- a run that is preempted, and one that runs out of its time, are requeued by submitit and go on
again() {            # again NAME SIGNAL-AFTER-UPDATES WORDS...: start a long run of its own; wait for so many updates
    local name=$1 updates=$2; shift 2
    "$python" -m rlseq.run -m "${slurm[@]}" "hydra.launcher.name=$name" "runs=runs/$name" "${tiny[@]}" algo=reinforce "$@" \
        > "$scratch/$name.log" 2>&1 & client=$!
    pids+=($client)
    for _ in $(seq 300); do [ "$(reached "$name")" -ge "$updates" ] && break; sleep 1; done
    [ "$(reached "$name")" -ge "$updates" ]
}
reached() { cat runs/"$1"/sort/*/reinforce/*/metrics.jsonl 2>/dev/null | tail -n 1 | sed -n 's/^{"step": \([0-9]*\),.*/\1/p' | grep . || echo 0; }
starts() { cat runs/"$1"/.submitit/*/*_log.out | grep -c 'Starting with JobEnvironment'; }
first() { tr '\r' '\n' < "$(ls runs/"$1"/.submitit/*/*_log.err)" | sed -n 's/^reinforce: .*| \([0-9]*\)\/[0-9]* \[00:00<?.*/\1/p' | tail -n 1; }

begun=$SECONDS
again preempted 6 hydra.launcher.timeout_min=60 plan.finetune.updates=24
at=$(reached preempted)
for signal in TERM USR2; do scancel --signal $signal "$(squeue -h -n preempted -o %A | head -n 1)"; done       # as clusters do
wait "$client"
[ "$(starts preempted)" -eq 2 ] && [ "$(first preempted)" -gt 0 ]
say "preempted near update $at of 24, requeued, went on from update $(first preempted) and ended; $((SECONDS - begun)) s"
"$python" "$home/tests/slurm/check.py" "$where" runs/smoke 5

begun=$SECONDS
again late 6 hydra.launcher.timeout_min=2 hydra.launcher.signal_delay_s=60 hydra.launcher.max_num_timeout=3 \
    plan.finetune.updates=100000 seed=1
for _ in $(seq 300); do [ "$(starts late)" -ge 2 ] && [ "$(first late)" -gt 0 ] && break; sleep 1; done
[ "$(starts late)" -ge 2 ] && [ "$(first late)" -gt 0 ]
scancel -n late
say "out of time, requeued, went on from update $(first late); $((SECONDS - begun)) s"
say "all is well"
