# What the strangers need: programs that run beside them, and what others wrote.

# Far more than any needs; what is still running then hangs.
readonly STRANGER_SECONDS=1800
readonly START_SECONDS=10

program_pid=
address=

# --- the program beside --------------------------------------------------------------------------

# Starts a program and waits for the line that tells its address: start NAME COMMAND...
# What it says is in NAME.stdout and NAME.stderr.
start() {
  local name=$1 begin=$SECONDS line=
  shift
  "$@" >"$work/$name.stdout" 2>"$work/$name.stderr" &
  program_pid=$!
  while [ -z "$line" ] && starting "$begin"; do
    sleep 0.1
    read -r line <"$work/$name.stdout" || line=
  done
  if [[ $line =~ ^listening\ on\ (http://)?(127\.0\.0\.1:[0-9]+)$ ]]; then
    address=${BASH_REMATCH[2]}
    echo "$line"
    return
  fi
  echo "FAIL $name did not say \"listening on 127.0.0.1:PORT\" but \"$line\""
  tail -n 20 "$work/$name.stderr"
  return 1
}

# Whether the program may still be about to start.
starting() {
  kill -0 "$program_pid" 2>/dev/null && [ $((SECONDS - $1)) -lt $START_SECONDS ]
}

# For every way out of this script, or of a subshell.
end_program() {
  [ -n "$program_pid" ] || return 0
  kill -KILL "$program_pid" 2>/dev/null || true
  wait "$program_pid" 2>/dev/null || true
}

within_time() {
  local status=0
  timeout "$STRANGER_SECONDS" "$@" || status=$?
  [ "$status" -ne 124 ] || echo "FAIL it was still running after $STRANGER_SECONDS s"
  return "$status"
}

# --- what others wrote ---------------------------------------------------------------------------

# Makes $suite/wstest.
install_autobahn() {
  suite=$work/autobahn
  need python3 python3
  "$here/autobahn/setup" "$suite"
}

# Runs the parts of a specification side by side, as the suite uses only one core, and judges what came of
# them: run_autobahn STRANGER SPECIFICATION COMMAND, where COMMAND runs one part, which it is told.
run_autobahn() {
  local template number part parts=() pid pids=() status=0
  for template in "$here/autobahn/$2"-*.json; do
    number=${template##*-}
    part=$1-${number%.json}
    rm -rf "$work/$part-reports"
    "$3" "$part" "$template" &
    pids+=($!)
    parts+=("$work/$part-reports/index.json")
    # It names every case as it goes and says no more: that is kept for when something goes wrong.
    echo "running the suite; what it says is in $work/$part-suite.log"
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
  echo "all cases: index.html beside each of ${parts[*]}"
  python3 "$here/autobahn/compare.py" "${record[@]}" --stranger "$1" \
    "$here/autobahn/recorded-$2.json" "${parts[@]}"
  return "$status"
}

# Writes $spec for one part: specify PART TEMPLATE
specify() {
  spec=$work/$1.json
  sed -e "s|@ADDRESS@|$address|" -e "s|@REPORTS@|$work/$1-reports|" "$2" >"$spec"
}

# Makes $venv/bin/python, which has the packages.
install_python_packages() {
  venv=$work/python
  need python3 python3
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    missing "Python 3.11 or later" "a newer python3"
  if ! cmp -s "$here/python/requirements.txt" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" || missing "Python's venv module" "Debian's package python3-venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      -r "$here/python/requirements.txt"
    cp "$here/python/requirements.txt" "$venv/installed.txt"
  fi
  export PYTHONDONTWRITEBYTECODE=1
}

# Node looks for packages next to the script, so the scripts are copied to where those may be.
install_node_modules() {
  need node nodejs
  need npm npm
  mkdir -p "$work/node"
  cp "$here"/node/*.mjs "$here"/node/package*.json "$work/node"
  if ! cmp -s "$here/node/package-lock.json" "$work/node/node_modules/installed.json"; then
    (cd "$work/node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    cp "$here/node/package-lock.json" "$work/node/node_modules/installed.json"
  fi
}

need() {
  command -v "$1" >/dev/null || missing "$1" "Debian's package $2"
}

missing() {
  echo "FAIL needs $1; install $2"
  exit 1
}
