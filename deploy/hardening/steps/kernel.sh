# How the kernel treats packets that no honest neighbour sends.
# shellcheck shell=bash

step_kernel() {
  put /etc/sysctl.d/90-marquee.conf 644 sysctl <"$HERE/files/sysctl.conf"
  if owed sysctl; then
    sysctl --quiet --load /etc/sysctl.d/90-marquee.conf
    settled sysctl
  fi
}
