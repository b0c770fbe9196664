#!/bin/sh
# keep_ptxas_log.sh FOLDER COMPILER ...: runs the compiler and keeps what it says on standard error, which with
# -Xptxas -v names each kernel's registers, stack and spills, in FOLDER/<source>.log (tests/test_cuda_build.py reads
# it). Warnings and errors are still shown.
folder=$1
shift
for word; do case $word in *.cu) source=$word ;; esac done
log=$folder/$(basename "${source:-link}").log
mkdir -p "$folder"
"$@" 2>"$log"
code=$?
grep -v "^ptxas info\|bytes stack frame" "$log" >&2
exit $code
