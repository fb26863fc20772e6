# Security fixes by themselves, at an hour that the administrators choose.
# shellcheck shell=bash

step_updates() {
  local after minute
  # The hosts never restart together.
  case $MARQUEE_ROLE in
    controltower) minute=20 ;;
    workhorse) minute=40 ;;
    *) minute=00 ;;
  esac
  after=$(printf '%02d:%s' $(((10#$MARQUEE_UPDATE_HOUR + 1) % 24)) "$minute")
  packages unattended-upgrades
  # After 50unattended-upgrades of the distribution, whose choice of origins it replaces.
  sed "s/@REBOOT@/$after/" "$HERE/files/upgrades.conf" | put /etc/apt/apt.conf.d/52marquee-upgrades 644
  sed "s/@HOUR@/$MARQUEE_UPDATE_HOUR/" "$HERE/files/upgrades.timer" |
    put /etc/systemd/system/apt-daily-upgrade.timer.d/marquee.conf 644 timer
  if owed timer; then
    service daemon-reload
    service restart apt-daily-upgrade.timer
    settled timer
  fi
}
