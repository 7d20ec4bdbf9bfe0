# Runs `codesandbox` on the Linux host $CODESANDBOX_HOST, a name that ssh(1) knows. Files that are
# named on the command line are carried there, files that the program leaves behind are brought back,
# and the exit status is that of the command there. Started by bash with -euo pipefail.

host=${CODESANDBOX_HOST:-codesandbox-builder}

fail() {
  printf 'codesandbox: %s\n' "$1" >&2
  exit 125
}

quoted() { printf '%q ' "$@"; }

# One connection for all commands; its socket's path must be short.
control=$(mktemp -d /tmp/codesandbox.XXXXXX)
ssh_options=(-o ControlMaster=auto -o "ControlPath=$control/ssh" -o ControlPersist=60)
remote() { ssh -T "${ssh_options[@]}" -- "$host" "$@"; }

there=''
# shellcheck disable=SC2317,SC2329 # called by the trap
finish() {
  trap '' INT TERM
  if [ -n "$there" ]; then remote "rm -rf $(quoted "$there")" </dev/null || true; fi
  ssh "${ssh_options[@]}" -O exit -- "$host" 2>/dev/null || true
  rm -rf "$control"
}
trap finish EXIT

command=${1:-help}
case $command in
  run | r) shift ;;
  man) fail "man: the pages are on $host: ssh $host man codesandbox" ;;
  *)
    # Says something of the host there; nothing to carry.
    status=0
    remote "codesandbox $(quoted "$@")" || status=$?
    exit "$status"
    ;;
esac

# Splits the arguments: files are given the names they have over there, all else stays as it is.
arguments=() sources=() names=() program=() outputs=no output_directory='' force=no json=no help=no standard_input=''

# carry FILE NAME: sends FILE as NAME.
carry() {
  [ -f "$1" ] || fail "$1: not a file"
  sources+=("$1")
  names+=("$2")
}

# A further file keeps a relative path that stays below this directory, else its base name.
further_file() {
  local path=$1 name
  if [[ $path == *=* ]] && [ ! -f "$path" ]; then
    name=${path##*=} path=${path%=*}
  else
    case /$path/ in
      //* | */../*) name=${path##*/} ;;
      *) name=$path ;;
    esac
  fi
  carry "$path" "files/${#sources[@]}"
  arguments+=(--file "${names[-1]}=$name")
}

while [ $# -gt 0 ]; do
  argument=$1
  shift
  value=
  # An option's value stands behind it, or behind its equals sign.
  case $argument in
    --*=*) value=${argument#*=} argument=${argument%%=*} ;;
    -r | --runtime | -a | --arg | -e | --env | -f | --file | --stdin | -o | --output | --output-dir | \
      -l | --limit | --compile-limit | -p | --profile | --socket | --config)
      [ $# -gt 0 ] || fail "$argument: a value is missing"
      value=$1
      shift
      ;;
    -[raefolp]?*) value=${argument:2} argument=${argument:0:2} ;;
  esac
  case $argument in
    --) program=("$@") && break ;;
    -f | --file) further_file "$value" ;;
    --stdin) standard_input=$value ;;
    -o | --output) outputs=yes && arguments+=(--output "$value") ;;
    --output-dir) output_directory=$value ;;
    --force) force=yes ;;
    --json) json=yes && arguments+=(--json) ;;
    -h | --help) help=yes && arguments+=("$argument") ;;
    --socket | --config) fail "$argument: names a file of $host; set it there" ;;
    -[!-]* | --*) arguments+=("$argument" ${value:+"$value"}) ;;
    *)
      carry "$argument" "main/${argument##*/}"
      arguments+=("${names[-1]}")
      ;;
  esac
done

if [ "$help" = yes ] || [ "${#sources[@]}" = 0 ]; then
  status=0
  remote "codesandbox run $(quoted "${arguments[@]}")" </dev/null || status=$?
  exit "$status"
fi

# Files travel through one tar, each under the name it has there.
staging=$control/files
mkdir "$staging" "$staging/main" "$staging/files"
for index in "${!sources[@]}"; do
  cp -- "${sources[index]}" "$staging/${names[index]}"
done
there=$(remote 'mktemp -d' </dev/null) || fail "$host: not reached, or no directory to work in"
tar -C "$staging" -c . | remote "tar -C $(quoted "$there") -x" || fail "$host: the files did not arrive"

# With --json, fetched files are in the result unless a directory is named.
bring=no
if [ "$outputs" = yes ] && { [ "$json" = no ] || [ -n "$output_directory" ]; }; then
  bring=yes
  arguments+=(--output-dir out)
fi
if [ "${#program[@]}" -gt 0 ]; then arguments+=(-- "${program[@]}"); fi

# Ctrl-C reaches this machine alone, and not ssh, which runs in the background for that; the command
# there is told by its process id, and ends by itself.
# shellcheck disable=SC2016,SC2317,SC2329 # meant for the shell over there; called by the trap
interrupt() { remote "cd $(quoted "$there")"' && kill -INT "$(cat pid)"' </dev/null || true; }
trap interrupt INT TERM

if [ -n "$standard_input" ]; then
  exec <"$standard_input"
elif [ -t 0 ]; then
  exec </dev/null
fi
status=0
# shellcheck disable=SC2016 # meant for the shell over there
remote "cd $(quoted "$there")"' && mkdir out && echo $$ >pid && exec codesandbox run '"$(quoted "${arguments[@]}")" <&0 &
running=$!
wait "$running" || status=$?
# A signal ends the waiting, and not what is waited for.
while kill -0 "$running" 2>/dev/null; do
  status=0
  wait "$running" || status=$?
done
trap - INT TERM

if [ "$bring" = yes ]; then
  keep=(--keep-old-files)
  if [ "$force" = yes ]; then keep=(--overwrite); fi
  mkdir -p "${output_directory:-.}"
  # The names were chosen by the program: regular files alone, and none that leads out of the directory.
  remote "cd $(quoted "$there/out")"'&& find . -type f -print0 | tar -c --null --no-recursion -T -' </dev/null |
    tar -C "${output_directory:-.}" -x "${keep[@]}" --no-same-owner --no-same-permissions ||
    fail "some files were not fetched"
fi
exit "$status"
