#!/usr/bin/env bash
# [PARTS="drive project"] e2e.sh VENV [BASE]: `memexp launch` against a real SkyPilot API server, which runs its jobs on a Slurm cluster on this machine.
# Needs root. Installs Debian's slurm-wlm, munge, openssh-server, rsync and python3 where they are missing; ends every
# process that it started and removes user and BASE (KEEP=1 keeps BASE, with all logs). Exit code 77: no cluster can be
# started on this machine.
set -euo pipefail
venv="$(cd "${1:?virtual environment with memexp and SkyPilot}" && pwd)"
export BASE="${2:-/var/tmp/memexp_e2e}" CLUSTER_USER=memexp-e2e NODES=2
here="$(cd "$(dirname "$0")" && pwd)"
checkout="$(cd "$here/../.." && pwd)"
begun=$SECONDS
if [ "$(id -u)" -ne 0 ]; then echo "e2e.sh: root is needed: it starts a cluster" >&2; exit 77; fi
if [ -e "$BASE" ]; then echo "e2e.sh: $BASE exists: remove it, or name another folder" >&2; exit 1; fi

# What Debian has. Nothing that is installed starts by itself.
if ! { command -v slurmctld && command -v munged && [ -x /usr/sbin/sshd ] && command -v rsync; } >/dev/null; then
  policy=/usr/sbin/policy-rc.d mine=0
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && mine=1; fi
  if command -v apt-get >/dev/null && apt-get update -qq; then
    apt-get install -y -qq --no-install-recommends slurm-wlm munge openssh-server rsync python3 python3-venv >/dev/null ||
      echo "e2e.sh: Debian's packages could not be installed" >&2
  fi
  if [ $mine -eq 1 ]; then rm $policy; fi
  if ! command -v slurmctld >/dev/null; then exit 77; fi
fi
version="$("$venv/bin/python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')"
export NODE_PYTHON="/usr/bin/$version"
if [ ! -x "$NODE_PYTHON" ]; then echo "e2e.sh: nodes need $NODE_PYTHON, which every user may run" >&2; exit 77; fi
mkdir -p "$BASE"
"$venv/bin/python" -m venv "$BASE/uv" && "$BASE/uv/bin/pip" install -q uv
export UV="$BASE/uv/bin/uv"

# Nodes install from the registries from which this machine does.
setting() { "$venv/bin/pip" config get "global.$1" 2>/dev/null | tr '\n' ' ' || true; }
UV_FIND_LINKS="${PIP_FIND_LINKS:-$(setting find-links)}" UV_DEFAULT_INDEX="${PIP_INDEX_URL:-$(setting index-url)}"
export UV_FIND_LINKS UV_DEFAULT_INDEX

# SkyPilot's own home: no file of the user's is read or written.
export HOME="$BASE/skyhome"
mkdir -p "$HOME/.slurm" "$HOME/.sky/catalogs/v8"
cat >"$HOME/.slurm/config" <<CONF
Host loop
  HostName 127.0.0.1
  Port 2222
  User $CLUSTER_USER
  IdentityFile $BASE/ssh/client_key
  IdentitiesOnly yes
CONF
cat >"$HOME/.sky/config.yaml" <<CONF
slurm: {cluster_configs: {loop: {tmpdir: $BASE/nodetmp}}}
jobs: {controller: {consolidation_mode: true}}
CONF
printf 'plugins:\n  - class: loopback_plugin.Loopback\n' >"$HOME/.sky/plugins.yaml"
cp -r "$here/catalogs/common" "$HOME/.sky/catalogs/v8/"
export PATH="$venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export SKYPILOT_DISABLE_USAGE_COLLECTION=1 PYTHONDONTWRITEBYTECODE=1 LOOPBACK_POLL_S=3
unset SLURM_CONF SKYPILOT_API_SERVER_ENDPOINT

down() {
  sky jobs cancel -y -a >/dev/null 2>&1 || true
  PYTHONPATH="$here" sky api stop >/dev/null 2>&1 || true
  bash "$here/cluster_down.sh" || true
  if [ "${KEEP:-0}" != 1 ]; then rm -rf "$BASE"; fi
}
trap down EXIT
if ! bash "$here/cluster_up.sh"; then exit 77; fi

# The code as it is committed here; a clone without a remote, so that launches send it along.
git clone --quiet --no-hardlinks "$checkout" "$BASE/src"
git -C "$BASE/src" remote remove origin
PYTHONPATH="$here" sky api start >/dev/null
sky check slurm | grep -i 'slurm.*enabled'
echo "server and cluster: $((SECONDS - begun)) s"
cd "$BASE"
packages="$venv/lib/$version/site-packages"
for part in ${PARTS:-drive project}; do
  if [ "$part" = drive ]; then
    PYTHONPATH="$BASE/src" "$venv/bin/python" "$here/drive.py" "$BASE" "$packages"
  else # the user has installed memexp's wheel
    "$venv/bin/pip" wheel -q --no-deps --wheel-dir "$BASE/wheel" "$BASE/src"
    "$venv/bin/python" -m venv --without-pip "$BASE/user"
    echo "$packages" >"$BASE/user/lib/$version/site-packages/packages.pth"
    "$venv/bin/pip" --python "$BASE/user/bin/python" install -q --no-deps "$BASE/wheel"/memexp-*.whl
    PYTHONPATH="$here" "$BASE/user/bin/python" "$here/$part.py" "$BASE" "$packages"
  fi
done
echo "e2e: passed in $((SECONDS - begun)) s"
