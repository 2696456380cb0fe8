#!/bin/sh
# sh compile.sh SOURCES INTO: C that mypyc made, compiled to extension modules below INTO, beside the package's sources.
# CC is the compiler (gcc), CFLAGS says where Python.h is. The plain suffix .so is one that CPython looks for anywhere.
# Nobody replaces our functions one by one (no semantic interposition): they may be inlined and called directly.
set -eu
sources=$1 into=$2
mkdir -p "$into"
compile() {
    ${CC:-gcc} -shared -fPIC -O2 -fno-semantic-interposition -fno-plt -fwrapv -DNDEBUG -w -I"$sources" -I"$sources/lib-rt" ${CFLAGS:-} -o "$1" "$2"
}
cd "$sources"
compile "$into/tenantry_service__mypyc.so" __native_tenantry_service.c
find tenantry_service -name '*.c' | while read -r module; do
    mkdir -p "$into/${module%/*}"
    compile "$into/${module%.c}.so" "$module"
done
