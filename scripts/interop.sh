#!/usr/bin/env bash
# What the tests with real authorization servers need (tests/interop, tests/integration/interop.rs), in the folder that is
# named (target/clients): their languages, which scripts/clients.sh sees to, and oidc-provider, Authlib, ory/fosite and
# Couper, each in the version that its lock file says. Prints nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${CARGO_TARGET_DIR:-target}/clients}
bash scripts/clients.sh "$folder"

# Whether a part is to be made: not from these very files with this very tool, or not wholly.
stale() { # PART TOOL'S-VERSION FILE...
  local part=$1
  stamp=$(printf '%s\n' "$2"; cat "${@:3}" scripts/interop.sh)
  [ "$(cat "$folder/$part.stamp" 2>/dev/null)" != "$stamp" ] || return 1
  echo "setting up $part" >&2
  rm -rf "${folder:?}/$part" "$folder/$part.stamp"
  mkdir "$folder/$part"
}
made() { printf '%s\n' "$stamp" >"$folder/$1.stamp"; }

source=tests/interop
if stale oidc-provider "$(node --version)" $source/package.json $source/package-lock.json $source/*.mjs; then
  cp $source/package.json $source/package-lock.json $source/*.mjs "$folder/oidc-provider" # Modules are looked up beside it.
  (cd "$folder/oidc-provider" && npm ci --silent --no-audit --no-fund --ignore-scripts)
  made oidc-provider
fi
if stale authlib "$(python3 -c 'import sys; print(sys.executable, sys.version)')" $source/requirements.txt; then
  python3 -m venv "$folder/authlib"
  "$folder/authlib/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    --requirement $source/requirements.txt
  made authlib
fi
for server in fosite couper; do
  if stale $server "$(go version)" $source/$server/go.mod $source/$server/go.sum $(ls $source/$server/*.go 2>/dev/null); then
    output=$(cd "$folder/$server" && pwd)/$server
    case $server in fosite) package=. ;; couper) package=github.com/avenga/couper ;; esac
    (cd $source/$server && GOTOOLCHAIN=local go build -buildvcs=false -o "$output" $package)
    made $server
  fi
done
