# What the steps share. Sourced by apply.
# shellcheck shell=bash

CHANGES=0

# Whose files have changed that has not taken them up yet: a run that was broken off is finished by the next.
# A host that starts takes up everything.
OWED=/run/marquee-hardening

die() {
  echo "apply: $*" >&2
  exit 1
}

heading() {
  echo "# $1"
}

# setting NAME: what Compose is told of it on this host. As in ../bin/env.sh; this folder works without its neighbours.
setting() {
  local file=$HERE/../compose/.env
  if [ -r "$file" ]; then
    sed -n "s/ #.*//; s/[\"']//g; s/^$1=//p" "$file" | tail -n 1
  fi
}

# The port table for this role.
table() {
  python3 "$HERE/table.py" "$@"
}

# Note a change, and tell of it.
changed() {
  CHANGES=$((CHANGES + 1))
  echo "changed  $*"
}

# owe WHOM, owed WHOM, settled WHOM: whether someone has yet to take up what changed.
owe() {
  install -d -m 755 "$OWED"
  : >"$OWED/$1"
}

owed() {
  [ "$DRY_RUN" = no ] && [ -e "$OWED/$1" ]
}

settled() {
  rm -f "$OWED/$1"
}

# put PATH MODE [WHOM]: make the file as standard input has it, and owe it to whom it is for.
put() {
  local path=$1 mode=$2 content
  # Line ends at the end would be lost otherwise.
  content=$(cat; printf x)
  content=${content%x}
  if [ "$DRY_RUN" = yes ]; then
    echo "file  $path $mode"
    printf '%s' "$content" | sed 's/^/  | /'
  elif ! printf '%s' "$content" | cmp -s - "$path" || [ "$(stat -c %a "$path")" != "$mode" ]; then
    [ $# -lt 3 ] || owe "$3"
    write "$path" "$mode" "$content"
    changed "$path"
  fi
}

# put_block PATH WHOM: make what stands between our two marks in a file of others as standard input has it.
put_block() {
  local path=$1 block rest
  block="# BEGIN marquee"$'\n'"$(cat)"$'\n'"# END marquee"
  if [ "$DRY_RUN" = yes ]; then
    echo "block  $path"
    printf '%s\n' "$block" | sed 's/^/  | /'
    return
  fi
  rest=$(sed '/^# BEGIN marquee$/,/^# END marquee$/d' "$path")
  if [ "$rest"$'\n'"$block" != "$(cat "$path")" ]; then
    owe "$2"
    write "$path" "$(stat -c %a "$path")" "$rest"$'\n'"$block"$'\n'
    changed "$path"
  fi
}

# Nobody ever sees half of a file.
write() {
  local path=$1 mode=$2 new
  install -d -m 755 "$(dirname "$path")"
  new=$(mktemp "$(dirname "$path")/.marquee.XXXXXX")
  printf '%s' "$3" >"$new"
  chmod "$mode" "$new"
  mv -f "$new" "$path"
}

# packages NAME…: install what is missing.
packages() {
  local name missing=()
  for name in "$@"; do
    if [ "$DRY_RUN" = yes ]; then
      echo "package  $name"
    elif [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" != installed ]; then
      missing+=("$name")
    fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
  changed "installed ${missing[*]}"
}

# service ACTION UNIT…: by systemd, where that runs this host.
service() {
  if [ -d /run/systemd/system ]; then
    systemctl --quiet "$@" || die "systemctl $* failed. Its reason is in: journalctl -n 30"
  else
    echo "systemd does not run here, so nothing did: systemctl $*"
  fi
}

# start_service UNIT: start it now and at boot.
start_service() {
  if [ "$DRY_RUN" = yes ]; then
    echo "service  $1"
  elif [ ! -d /run/systemd/system ] || ! systemctl --quiet is-active "$1" || ! systemctl --quiet is-enabled "$1"; then
    service enable --now "$1"
  fi
}

# This SSH session: address and port that it comes from, and those that it came to. sudo drops the variable, so ask
# the processes above, too.
session() {
  local process=$$ found
  while [ "$process" -gt 1 ]; do
    found=$(tr '\0' '\n' <"/proc/$process/environ" 2>/dev/null | sed -n 's/^SSH_CONNECTION=//p')
    if [ -n "$found" ]; then
      echo "$found"
      return
    fi
    process=$(awk '/^PPid:/ {print $2}' "/proc/$process/status")
  done
}

# Ports that sshd is told to listen on, if it is here.
sshd_ports() {
  # It says nothing without its folder, which need not be there yet where systemd starts it at the first connection.
  install -d -m 755 /run/sshd
  sshd -T 2>/dev/null | sed -n 's/^port //p' || true
}

# refuse_lockout STEP…: end here if the steps would shut out who runs them.
refuse_lockout() {
  local from port open ports
  [ "$FORCE" = no ] || return 0
  [ -n "$MARQUEE_ADMINS" ] ||
    die "No administrators' network is given, so nobody could reach this host any more. Give --admins, or --force."
  read -r from _ _ port <<<"$(session)"
  if [ -n "$from" ] && ! table within "$from"; then
    die "Your session comes from $from, which is not within $MARQUEE_ADMINS: you would shut yourself out." \
      "Add your network to --admins, or give --force."
  fi
  if [[ " $* " == *" firewall "* ]]; then
    open=$(table administered)
    for ports in "$port" "$(sshd_ports)"; do
      [ -z "$ports" ] || grep -qxF "$open" <<<"$ports" ||
        die "SSH is at port ${ports//$'\n'/, } here, and the firewall would open port $open alone." \
          "Let sshd listen on $open and log in there, leave the firewall out by --only, or give --force."
    done
  fi
  if [[ " $* " == *" ssh "* ]] && ! keyed_administrator; then
    die "No user with an SSH key here can become root by sudo, with NOPASSWD or a password that is set:" \
      "with passwords and root refused by SSH, nobody could administer this host. Add a key to such a user's" \
      ".ssh/authorized_keys, give the user who has one a password (passwd USER), or give --force."
  fi
}

# Whether any user but root can become root and has a key that sshd can read.
keyed_administrator() {
  local user uid home file
  while IFS=: read -r user _ uid _ _ home _; do
    [ "$uid" -ne 0 ] || continue
    for file in "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2"; do
      if ssh-keygen -l -f "$file" >/dev/null 2>&1 && becomes_root "$user"; then
        return 0
      fi
    done
  done < <(getent passwd)
  return 1
}

# becomes_root USER: whether sudo lets a user. Where it asks for a password, a locked account has none to give.
becomes_root() {
  sudo -n -l -U "$1" /bin/sh >/dev/null 2>&1 || return
  [[ $(passwd -S "$1" 2>/dev/null) == "$1 P "* ]] ||
    runuser -u "$1" -- sudo -n /bin/sh -c : </dev/null >/dev/null 2>&1
}
