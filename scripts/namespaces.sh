#!/usr/bin/env bash
# What the tests in network namespaces need (tests/integration/transparent.rs): nft, ip, unshare and curl. Installs them
# on Debian and Ubuntu, says what to type elsewhere. Prints nothing, and asks nobody, where all is there.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

packages=()
command -v nft >/dev/null || packages+=(nftables)
command -v ip >/dev/null || packages+=(iproute2)
command -v unshare >/dev/null || packages+=(util-linux)
command -v curl >/dev/null || packages+=(curl)
[ ${#packages[@]} -eq 0 ] && exit 0

command -v apt-get >/dev/null || { echo "missing: ${packages[*]}. Install them with your package manager" >&2; exit 1; }
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "missing: ${packages[*]}. As root: apt-get install ${packages[*]}" >&2; exit 1; }
  as_root=(sudo -n)
fi
echo "installing what is missing: ${packages[*]}" >&2
"${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
  --no-install-recommends "${packages[@]}" >/dev/null
