#!/usr/bin/env bash
# Slurm runs this before every task, as the job's user. On a node without the internet it puts in place what SkyPilot's setup
# looks for before it downloads: uv in $HOME/.local/bin, and the runtime's virtual environment.
case "$SLURM_JOB_NAME" in *-[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]) ;; *) exit 0 ;; esac
if [ "$(id -un)" != "__USER__" ]; then exit 0; fi
node_home="__BASE__/home/.sky_clusters/$SLURM_JOB_NAME"
runtime="__BASE__/nodetmp/$SLURM_JOB_NAME"
{
  mkdir -p "$node_home/.local/bin" "$runtime/.sky"
  [ -e "$node_home/.local/bin/uv" ] || ln -s "__BASE__/opt/uv" "$node_home/.local/bin/uv"
  exec 9>"$runtime/.prolog.lock"
  flock 9
  if [ ! -d "$runtime/skypilot-runtime" ]; then
    UV_CACHE_DIR="__BASE__/uv_cache" UV_LINK_MODE=copy \
      "__BASE__/opt/uv" venv -q --seed "$runtime/skypilot-runtime" --python "__PYTHON__"
  fi
} >>"__BASE__/log/task_prolog.log" 2>&1
exit 0
