# Docker's daemon. It is configured even before it is installed.
# shellcheck shell=bash

step_docker() {
  local path=/etc/docker/daemon.json merged
  if [ "$DRY_RUN" = yes ]; then
    echo "keys  $path"
    sed 's/^/  | /' "$HERE/files/daemon.json"
    return
  fi
  merged=$(python3 "$HERE/merge.py" "$path" "$HERE/files/daemon.json")
  put "$path" 644 docker <<<"$merged"
  owed docker || return 0
  if [ -d /run/systemd/system ] && systemctl --quiet is-active docker; then
    # Reloading turns live-restore on, so that the restart which the rest needs stops no container.
    service reload docker
    service restart docker
  fi
  settled docker
}
