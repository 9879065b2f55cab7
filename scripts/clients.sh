#!/usr/bin/env bash
# What the tests with real programs need (tests/clients, tests/integration/clients.rs): curl, Python, Node, Go and a
# JDK, the clients' own packages, and h2spec, in the folder that is named (target/clients). Installs tools on Debian and Ubuntu, says what to
# type on macOS. Prints nothing, and asks nobody, where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${CARGO_TARGET_DIR:-target}/clients}
mkdir -p "$folder"

packages=()
works() { "$@" >/dev/null 2>&1; } # The macOS stubs of java and python3 exist and fail.
works curl --version || packages+=(curl ca-certificates)
works python3 -c 'import ensurepip, venv' || packages+=(python3-venv)
works node --version || packages+=(nodejs)
works npm --version || packages+=(npm)
works go version || packages+=(golang-go)
works javac -version && works keytool -help || packages+=(default-jdk-headless)
if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(uname)" = Darwin ]; then
    echo "missing: ${packages[*]}. Type: brew install curl python node go openjdk, and do what brew says about openjdk" >&2
    exit 1
  fi
  command -v apt-get >/dev/null || { echo "missing: ${packages[*]}. Install them with your package manager" >&2; exit 1; }
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "missing: ${packages[*]}. As root: apt-get install ${packages[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "installing what is missing: ${packages[*]}" >&2
  "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
    --no-install-recommends "${packages[@]}" >/dev/null
fi

node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 18 || (a == 18 && b >= 17) ? 0 : 1)' || {
  echo "node $(node --version) is too old: install 18.17 or later" >&2
  exit 1
}

# Whether a part is to be made: not from these very files with this very tool, or not wholly.
stale() { # PART TOOL'S-VERSION FILE...
  local part=$1
  stamp=$(printf '%s\n' "$2"; cat "${@:3}" scripts/clients.sh)
  [ "$(cat "$folder/$part.stamp" 2>/dev/null)" != "$stamp" ] || return 1
  echo "setting up the $part clients" >&2
  rm -rf "${folder:?}/$part" "$folder/$part.stamp"
  mkdir "$folder/$part"
}
made() { printf '%s\n' "$stamp" >"$folder/$1.stamp"; }

source=tests/clients
if stale python "$(python3 -c 'import sys; print(sys.executable, sys.version)')" $source/requirements.txt; then
  python3 -m venv "$folder/python"
  "$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    --requirement $source/requirements.txt
  made python
fi
if stale node "$(node --version)" $source/package.json $source/package-lock.json $source/*.mjs; then
  cp $source/package.json $source/package-lock.json $source/*.mjs "$folder/node" # Modules are looked up beside the program.
  (cd "$folder/node" && npm ci --silent --no-audit --no-fund --ignore-scripts)
  made node
fi
if stale go "$(go version)" $source/go_net_http.go; then
  GOTOOLCHAIN=local go build -o "$folder/go/net_http" $source/go_net_http.go
  made go
fi
if stale h2spec "$(go version)" $source/h2spec/go.mod $source/h2spec/go.sum; then # The conformance suite of HTTP/2.
  output=$(cd "$folder/h2spec" && pwd)/h2spec
  (cd $source/h2spec && GOTOOLCHAIN=local go build -o "$output" github.com/summerwind/h2spec/cmd/h2spec)
  made h2spec
fi
if stale java "$(javac -version 2>&1)" $source/*.java; then
  javac -d "$folder/java" $source/*.java
  made java
fi
