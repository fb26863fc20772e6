# SSH by keys, never as root.
# shellcheck shell=bash

SSH_DROP_IN=/etc/ssh/sshd_config.d/00-marquee.conf

step_ssh() {
  local old
  packages openssh-server
  old=$(cat "$SSH_DROP_IN" 2>/dev/null || true)
  put "$SSH_DROP_IN" 644 sshd <"$HERE/files/sshd.conf"
  owed sshd || return 0
  # Where systemd starts sshd at the first connection, its folder need not be there yet.
  install -d -m 755 /run/sshd
  if ! sshd_obeys; then
    if [ -n "$old" ] && [ "$old" != "$(<"$HERE/files/sshd.conf")" ]; then
      write "$SSH_DROP_IN" 644 "$old"$'\n'
    else
      rm "$SSH_DROP_IN"
    fi
    settled sshd
    die "sshd would not follow $SSH_DROP_IN, which is withdrawn. Look at /etc/ssh/sshd_config: it must be" \
      "valid and begin with 'Include /etc/ssh/sshd_config.d/*.conf'."
  fi
  service try-reload-or-restart ssh
  settled sshd
}

# Whether the configuration as a whole is valid, and nothing in it comes before ours.
sshd_obeys() {
  sshd -t || return
  [ "$(sshd -T | grep -cxE 'permitrootlogin no|passwordauthentication no|kbdinteractiveauthentication no')" -eq 3 ]
}
