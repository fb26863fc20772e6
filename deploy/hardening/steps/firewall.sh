# UFW for what listens on the host, Docker's own chain for what it publishes.
# shellcheck shell=bash

step_firewall() {
  packages ufw
  policy incoming INPUT deny DROP
  policy outgoing OUTPUT allow ACCEPT
  policy routed FORWARD deny DROP
  rules
  table docker 4 | put_block /etc/ufw/after.rules ufw
  table docker 6 | put_block /etc/ufw/after6.rules ufw
  [ "$DRY_RUN" = no ] || return 0
  if ! LANG=C ufw status | grep -qx 'Status: active'; then
    ufw --force enable >/dev/null
    changed "the firewall is on"
  elif owed ufw; then
    ufw reload >/dev/null
  fi
  settled ufw
}

# policy NAME VARIABLE VALUE STORED
policy() {
  if [ "$DRY_RUN" = yes ]; then
    echo "policy  $3 $1"
  elif ! grep -qx "DEFAULT_$2_POLICY=\"$4\"" /etc/default/ufw || ! grep -qx 'IPV6=yes' /etc/default/ufw; then
    sed -i 's/^IPV6=.*/IPV6=yes/' /etc/default/ufw
    ufw default "$3" "$1" >/dev/null
    changed "policy $3 $1"
  fi
}

# New rules come before old ones go: at no time is anyone shut out who may stay.
rules() {
  local wanted present rule words comment kept
  mapfile -t wanted < <(table ufw)
  if [ "$DRY_RUN" = yes ]; then
    printf 'rule  %s\n' "${wanted[@]}"
    return
  fi
  mapfile -t present < <(ufw show added | sed -n 's/^ufw //p')
  for rule in "${wanted[@]}"; do
    contains "$rule" "${present[@]}" && continue
    read -ra words <<<"${rule%% comment *}"
    comment=${rule#* comment \'}
    ufw "${words[@]}" comment "${comment%\'}" >/dev/null
    changed "rule $rule"
  done
  kept=("${wanted[@]%% comment *}")
  for rule in "${present[@]%% comment *}"; do
    contains "$rule" "${kept[@]}" && continue
    read -ra words <<<"$rule"
    ufw --force delete "${words[@]}" >/dev/null
    changed "no rule $rule"
  done
}

# contains ONE MANY…
contains() {
  local one=$1 other
  shift
  for other in "$@"; do
    [ "$one" != "$other" ] || return 0
  done
  return 1
}
