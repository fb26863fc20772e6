#!/usr/bin/env bash
# Bring a release to the hosts of an environment, one after the other, over SSH; .github/workflows/deploy.yml calls it.
#
#   deploy.sh to TAG SERVICE=REFERENCE…   where it fails on a host, hosts before that one go back, too
#   deploy.sh back                        what ran before, on all hosts that this deployment has changed; where one was
#                                         broken off half-way, too
#
# Environment: DEPLOY_HOSTS (names or addresses, the one of the API first), DEPLOY_USER (who may use sudo without a
# password: what `deploy/bin/up` made is root's, who may not log in), DEPLOY_FOLDER (the checkout on each host, from
# the user's home), SSH_KEY_FILE, SSH_KNOWN_HOSTS_FILE (the hosts' keys: others are refused), DEPLOY_ID (of this
# deployment, so that `back` leaves alone what another one has brought; unset: `back` takes the last one).
#
# The hosts read their commands from standard input: what they run must not read it, too.
set -euo pipefail

die() {
  echo "deploy: $*" >&2
  exit 2
}

: "${DEPLOY_HOSTS:?}" "${DEPLOY_USER:?}" "${DEPLOY_FOLDER:?}" "${SSH_KEY_FILE:?}" "${SSH_KNOWN_HOSTS_FILE:?}"
DEPLOY_ID=${DEPLOY_ID:-by-hand}
read -ra hosts <<<"$DEPLOY_HOSTS"

# Each word reaches the shell of the host as it is, so none may hold anything that a shell reads.
for word in "${hosts[@]}" "$DEPLOY_USER" "$DEPLOY_FOLDER" "$DEPLOY_ID" "$@"; do
  [[ $word =~ ^[A-Za-z0-9./:=@_-]+$ ]] || die "'$word' is not a host, folder, tag or reference."
done

on() {
  local host=$1
  shift
  ssh -i "$SSH_KEY_FILE" -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
    -o "UserKnownHostsFile=$SSH_KNOWN_HOSTS_FILE" -o GlobalKnownHostsFile=none -o ConnectTimeout=20 \
    -o ServerAliveInterval=15 -- "$DEPLOY_USER@$host" sudo -n bash -s -- "$DEPLOY_FOLDER" "$DEPLOY_ID" "$@"
}

# The files of Compose belong to the release as much as its images do: both are brought, or neither. What was there
# before is written down first, so that a deployment which is broken off can be undone.
release() {
  on "$@" <<'HOST'
set -euo pipefail
cd "$1" && id=$2 tag=$3 && shift 3
before=$(git rev-parse HEAD)
state=$(git rev-parse --git-dir)/marquee-deployment
cp -p deploy/compose/.env "$state.env"
echo "begun $id $before" >"$state"
git fetch --quiet --depth 1 origin "refs/tags/$tag:refs/tags/$tag"
git checkout --quiet --detach "refs/tags/$tag"
# A release may ask for a secret that the one before did not have.
{ deploy/bin/init </dev/null && deploy/bin/release "$@" </dev/null; } || {
  code=$?
  git checkout --quiet --detach "$before"
  # What was brought back was so with the new files of Compose, which may be what is broken.
  if [ $code -ge 4 ]; then
    deploy/bin/release --same </dev/null && code=4 || code=5
  fi
  # `back` may have more luck later.
  [ $code -eq 5 ] || rm "$state"
  exit $code
}
echo "done $id $before" >"$state"
HOST
}

back() {
  on "$1" <<'HOST'
set -euo pipefail
cd "$1" && id=$2
state=$(git rev-parse --git-dir)/marquee-deployment
of=''
[ ! -e "$state" ] || read -r stage of before <"$state"
if [ -z "$of" ] || { [ "$id" != by-hand ] && [ "$id" != "$of" ]; }; then
  echo "nothing of this deployment is here"
  exit 0
fi
# Whoever gave up waiting for it has not ended it.
[ ! -e deploy/compose/.release.lock ] || flock --wait 1200 deploy/compose/.release.lock true
read -r stage of before <"$state" || exit 0
git checkout --quiet --detach "$before"
case $stage in
  done) deploy/bin/release --back </dev/null ;;
  begun)
    cp -p "$state.env" deploy/compose/.env
    deploy/bin/release --same </dev/null
    ;;
esac
rm "$state"
HOST
}

all_back() {
  local host failed=0
  for host in "$@"; do
    echo "== back on $host"
    back "$host" || failed=1
  done
  return $failed
}

case ${1-} in
  to)
    [ $# -ge 3 ] || die "expected: to TAG SERVICE=REFERENCE…"
    shift
    finished=()
    for host in "${hosts[@]}"; do
      echo "== $host"
      if ! release "$host" "$@"; then
        echo "deploy: it failed on $host: see above for how that is now" >&2
        all_back "${finished[@]}" || echo "deploy: a host did not go back: see above" >&2
        exit 1
      fi
      finished=("$host" "${finished[@]}")
    done
    ;;
  back) all_back "${hosts[@]}" ;;
  *) die "expected: to TAG SERVICE=REFERENCE… or back" ;;
esac
