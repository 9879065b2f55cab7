#!/usr/bin/env bash
# What a build needs besides a Rust toolchain: a C compiler and cmake (pingora compiles zlib-ng and zstd). What the tests
# need: curl, which they compare with.
# Installs them on Debian and Ubuntu, says what to type elsewhere. Prints nothing where all is there.
set -euo pipefail

missing=()
command -v cargo >/dev/null || missing+=(cargo)
command -v cc >/dev/null || missing+=(cc)
command -v cmake >/dev/null || missing+=(cmake)
command -v curl >/dev/null || missing+=(curl)
[ ${#missing[@]} -eq 0 ] && exit 0

if [[ " ${missing[*]} " == *" cargo "* ]]; then
  echo "cargo is missing: install Rust 1.88 or later from https://rustup.rs, open a new shell, and run this again" >&2
  exit 1
fi
if [ "$(uname)" = Darwin ]; then
  echo "missing: ${missing[*]}. Type: xcode-select --install; brew install cmake curl" >&2
  exit 1
fi
if command -v apt-get >/dev/null; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "missing: ${missing[*]}. As root: apt-get install gcc libc6-dev cmake make curl" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "installing what is missing: ${missing[*]}" >&2
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends gcc libc6-dev cmake make curl >/dev/null
  exit 0
fi
echo "missing: ${missing[*]}. Install a C compiler, cmake and curl with your package manager" >&2
exit 1
