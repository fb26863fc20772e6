# shellcheck shell=bash disable=SC2154
# What .env says of a host; sourced by up and release, which set `env`, that file, and `COMPOSE`, the files' folder.

# A variable as Compose reads it, or a default.
value_of() {
  local found
  found=$(sed -n "s/ #.*//; s/[\"']//g; s/^$1=//p" "$env" 2>/dev/null | tail -n1) || true
  echo "${found:-${2-}}"
}

# Into `files`, as options of Compose: what the host runs, somebody's own files among them; else a default.
read_files() {
  local file names
  IFS=: read -ra names <<<"$(value_of COMPOSE_FILE "$1")"
  files=()
  for file in "${names[@]}"; do
    case $file in
      /*) files+=(-f "$file") ;;
      *) files+=(-f "$COMPOSE/$file") ;;
    esac
  done
}

# Compose with `files`. The lock of a release is none of its own.
compose() { docker compose --project-directory "$COMPOSE" --env-file "$env" "${files[@]}" "$@" 9>&-; }
