#!/usr/bin/env bash
# Counts instructions (benches/counts) with valgrind, which is installed on Debian and Ubuntu where it is missing.
# Wants target/release/lanyard to be there.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname)" != Linux ]; then
  echo "instructions are NOT counted here: that takes valgrind, which is for Linux"
  exit 0
fi
if ! command -v valgrind >/dev/null; then
  command -v apt-get >/dev/null || { echo "valgrind is missing: install it with your package manager" >&2; exit 1; }
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "valgrind is missing. As root: apt-get install valgrind" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "installing what is missing: valgrind" >&2
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends valgrind libc6-dbg >/dev/null
fi
cargo bench --locked --quiet --profile counts --bench counts -- "$@"
