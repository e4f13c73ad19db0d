#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build_and_run.sh CC LIBDIR OUTDIR PACKAGE PROGRAM [LAUNCHER...]: PROGRAM.c against the tree installed at
# LIBDIR, in which pkg-config finds PACKAGE; run by the launcher, if there is one.
set -eu
compiler=$1 libraries=$2 directory=$3 package=$4 program=$5
shift 5
PKG_CONFIG_PATH=$libraries/pkgconfig
export PKG_CONFIG_PATH
linking=
[ -e "$libraries/libsyncbn.a" ] && linking=--static
mkdir -p "$directory"
# Unquoted: several flags. $linking may be none.
# shellcheck disable=SC2046,SC2086
"$compiler" -std=c99 -pedantic-errors -Wall -Wextra -Werror -o "$directory/$program" \
  "$(dirname "$0")/$program.c" $(pkg-config --cflags --libs $linking "$package") \
  -Wl,-rpath,"$libraries" -lm
"$@" "$directory/$program"
