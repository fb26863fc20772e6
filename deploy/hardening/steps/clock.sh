# One time and one locale on all hosts, so that logs can be laid side by side.
# shellcheck shell=bash

UTC=/usr/share/zoneinfo/Etc/UTC

step_clock() {
  put /etc/timezone 644 <<<"Etc/UTC"
  put /etc/default/locale 644 <<<"LANG=C.UTF-8"
  if [ "$DRY_RUN" = yes ]; then
    echo "link  /etc/localtime $UTC"
  elif [ "$(readlink /etc/localtime)" != "$UTC" ]; then
    ln -sfn "$UTC" /etc/localtime
    changed /etc/localtime
  fi
  # A cloud's image may bring chrony, which keeps time as well, and nothing may run beside it.
  if [ "$DRY_RUN" = yes ] || ! command -v chronyd >/dev/null; then
    packages systemd-timesyncd
    start_service systemd-timesyncd
  fi
}
