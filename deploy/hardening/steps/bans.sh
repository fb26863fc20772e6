# fail2ban: who guesses at SSH or at the proxy's log-in is not heard for a while.
# shellcheck shell=bash

PROXY_LOG=/var/log/marquee/proxy.log

step_bans() {
  packages fail2ban nftables python3-systemd
  put /etc/fail2ban/filter.d/marquee-proxy.conf 644 fail2ban <"$HERE/files/filter.conf"
  {
    sed "s|@TRUSTED@|$(table trusted | tr '\n' ' ')|" "$HERE/files/jail.conf"
    if guarded; then
      sed "s|@LOG@|$PROXY_LOG|" "$HERE/files/jail-proxy.conf"
    fi
  } | put /etc/fail2ban/jail.d/marquee.conf 644 fail2ban
  if [ "$DRY_RUN" = no ] && guarded && [ ! -e "$PROXY_LOG" ]; then
    # fail2ban does not start without the file, and the proxy may not have written it yet.
    install -d -m 755 "$(dirname "$PROXY_LOG")"
    : >"$PROXY_LOG"
    changed "$PROXY_LOG"
  fi
  start_service fail2ban
  [ "$DRY_RUN" = no ] || return 0
  if owed fail2ban; then
    # Who is banned stays so. A reload would be refused while it is still starting.
    service restart fail2ban
  fi
  # systemd takes it for started before it has read a line of its configuration.
  if [ -d /run/systemd/system ] && ! fail2ban_answers; then
    journalctl --no-pager -o cat -n 5 -u fail2ban >&2
    die "fail2ban does not stay up: its last words are above. An update may help: apt-get install fail2ban."
  fi
  settled fail2ban
}

# Whether clients reach the proxy themselves. Behind a balancer all packets come from it, so that a ban would hold for
# everybody or for nobody.
guarded() {
  table public && [ -z "$TRUSTED_PROXIES" ]
}

fail2ban_answers() {
  local try
  for try in {1..60}; do
    ! fail2ban-client ping >/dev/null 2>&1 || return 0
    [ "$try" -lt 4 ] || systemctl --quiet is-active fail2ban || return 1
    sleep 0.5
  done
  return 1
}
