#!/usr/bin/env bash
# Summarises an access log or an application log. Checks the input here; summary.awk counts.
set -u
export LC_ALL=C

usage() {
  cat <<'TEXT'
usage: run.sh [options] [FILE]

Summarise an access log (common or combined format) or an application log
(JSON lines or plain text with levels). Reads standard input when FILE is - or
missing.

options:
  --input KIND     auto (default), access, json or plain
  --top N          entries per ranking, 1 to 1000 (default 10)
  --split DIR      also write the lines of each status class or level to DIR
  --keep-query     keep the query string in paths
  --lossy          replace bytes outside ASCII by ? instead of checking UTF-8
  --format FORMAT  markdown (default) or json
  --help           show this help
TEXT
}

fail() {
  printf 'log-summary: %s\n' "$2" >&2
  exit "$1"
}

input=auto top=10 split= keep_query=0 lossy=0 format=markdown file=- seen=0
while [ $# -gt 0 ]; do
  option=$1
  case $option in
    --input=* | --top=* | --split=* | --format=*)
      value=${option#*=}
      option=${option%%=*}
      ;;
    --input | --top | --split | --format)
      [ $# -ge 2 ] || fail 2 "$option needs a value; see --help"
      value=$2
      shift
      ;;
  esac
  case $option in
    --input) input=$value ;;
    --top) top=$value ;;
    --split) split=$value && [ -n "$split" ] || fail 2 "--split needs a folder; see --help" ;;
    --format) format=$value ;;
    --keep-query) keep_query=1 ;;
    --lossy) lossy=1 ;;
    --help | -h) usage && exit 0 ;;
    -?*) fail 2 "unknown option $option; see --help" ;;
    *)
      [ $seen -eq 0 ] || fail 2 "one FILE at a time, got also $option; concatenate the logs first"
      file=$option seen=1
      ;;
  esac
  shift
done
case $input in auto | access | json | plain) ;; *) fail 2 "--input takes auto, access, json or plain, got $input" ;; esac
case $format in markdown | json) ;; *) fail 2 "--format takes markdown or json, got $format" ;; esac
case $top in '' | 0* | *[!0-9]* | ?????*) fail 2 "--top takes 1 to 1000, got $top" ;; esac
[ "$top" -le 1000 ] || fail 2 "--top takes 1 to 1000, got $top"

# Outside the working folder, where it would be taken for a result.
work=$(mktemp -d "${TMPDIR:-/tmp}/log-summary.XXXXXX") || fail 1 "cannot create a temporary folder; set TMPDIR to a writable one"
trap 'rm -rf "$work"' EXIT

if [ "$file" = - ]; then
  name="standard input"
  cat >"$work/raw" || fail 1 "cannot keep a copy of $name in ${TMPDIR:-/tmp}; free some space"
else
  name=$file
  [ -f "$file" ] && [ -r "$file" ] || fail 1 "cannot read $name: it is missing or not a readable file; check the path"
  cat -- "$file" >"$work/raw" || fail 1 "cannot read $name; check the path"
fi
grep -q '[^[:space:]]' "$work/raw" || fail 1 "$name is empty; pass a log on standard input or as FILE"
[ "$(tr -cd '\000' <"$work/raw" | wc -c)" -eq 0 ] || fail 1 "$name has NUL bytes, so it is not a text log; decompress or export it first"
if [ $lossy -eq 1 ]; then
  tr '\200-\377' '?' <"$work/raw" >"$work/log"
else
  if command -v iconv >/dev/null && ! iconv -f UTF-8 -t UTF-8 "$work/raw" >/dev/null 2>&1; then
    fail 1 "$name is not valid UTF-8; convert it first, or pass --lossy to replace those bytes"
  fi
  mv "$work/raw" "$work/log"
fi
if [ -n "$split" ]; then
  mkdir -p -- "$split" || fail 1 "cannot create the folder $split; choose another one for --split"
  case $split in /*) ;; *) split=./$split ;; esac
fi

# Through the environment, because awk resolves backslashes in -v values.
export LOG_SPLIT=$split
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
${AWK:-awk} -v kind="$input" -v top="$top" -v keep_query="$keep_query" -v format="$format" \
  -f "$here/summary.awk" "$work/log" "$work/log" >"$work/report"
status=$?
if [ $status -eq 4 ]; then
  case $input in auto) wanted="access, JSON or plain log line with a level" ;; *) wanted="$input log line" ;; esac
  fail 1 "no $wanted found in $name; check the file or set --input"
fi
[ $status -eq 0 ] || fail 1 "awk failed with status $status on $name; try another awk by setting AWK"
cat "$work/report"
