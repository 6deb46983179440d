#!/bin/sh
# Installs header, libraries and pkg-config file: install.sh BUILD PREFIX, with BUILD the folder that cargo left the libraries
# in. DESTDIR is put before PREFIX, for packagers.
set -eu

build=$1 prefix=$2
source=$(dirname "$0")
to=${DESTDIR:-}$prefix
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/Cargo.toml" | head -n 1)
abi=$(sed -n 's/^#define DRAFTPICK_ABI_VERSION //p' "$source/include/draftpick.h")

mkdir -p "$to/include" "$to/lib/pkgconfig"
install -m 644 "$source/include/draftpick.h" "$to/include/"
install -m 644 "$build/libdraftpick_c.a" "$to/lib/"
install -m 755 "$build/libdraftpick_c.so" "$to/lib/libdraftpick_c.so.$abi"
ln -sf "libdraftpick_c.so.$abi" "$to/lib/libdraftpick_c.so"
sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" "$source/draftpick.pc.in" > "$to/lib/pkgconfig/draftpick.pc"
