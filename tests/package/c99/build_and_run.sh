#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build_and_run.sh CC LIBDIR OUTDIR: the C program against the tree installed at LIBDIR, which it
# finds with pkg-config.
set -eu
PKG_CONFIG_PATH=$2/pkgconfig
export PKG_CONFIG_PATH
linking=
[ -e "$2/libsyncbn.a" ] && linking=--static
mkdir -p "$3"
# Unquoted: several flags. $linking may be none.
# shellcheck disable=SC2046,SC2086
"$1" -std=c99 -pedantic-errors -Wall -Wextra -Werror -o "$3/consumer" "$(dirname "$0")/consumer.c" \
  $(pkg-config --cflags --libs $linking syncbn) -Wl,-rpath,"$2" -lm
"$3/consumer"
