# Clients that others wrote, against `sockeye serve`.

readonly STOP_SECONDS=10

# For the clients of one policy: start_sockeye POLICY
start_sockeye() {
  local begin=$SECONDS
  echo
  echo "== sockeye serve --compression $1"
  if start "sockeye-$1" "$target/release/sockeye" serve --listen 127.0.0.1:0 --max-message 16MiB \
    --compression "$1"; then
    tally "start $1" 1 0 "$begin"
    return
  fi
  tally "start $1" 0 1 "$begin"
  return 1
}

# A check of its own: SIGTERM ends the program, cleanly and soon.
stop_sockeye() {
  local begin=$SECONDS status=0
  kill -TERM "$program_pid" 2>/dev/null || true
  while kill -0 "$program_pid" 2>/dev/null && [ $((SECONDS - begin)) -lt $STOP_SECONDS ]; do
    sleep 0.1
  done
  kill -KILL "$program_pid" 2>/dev/null || true
  wait "$program_pid" 2>/dev/null || status=$?
  program_pid=
  if [ "$status" -eq 0 ]; then
    tally "stop $1" 1 0 "$begin"
  else
    echo "FAIL after SIGTERM the program's exit code was $status instead of 0"
    tail -n 20 "$work/sockeye-$1.stderr"
    tally "stop $1" 0 1 "$begin"
  fi
}

visit_autobahn() { check_with_autobahn "$stranger" server; }
visit_autobahn-shared() { check_with_autobahn "$stranger" shared; }

check_with_autobahn() {
  install_autobahn
  run_autobahn "$1" "$2" be_fuzzed
}

# One part of the suite's cases, as a client.
be_fuzzed() {
  local log=$work/$1-suite.log
  specify "$1" "$2"
  within_time "$suite/wstest" -m fuzzingclient -s "$spec" >"$log" 2>&1
  if grep "^Connection to .* failed" "$log"; then
    echo "FAIL the program stopped taking connections, so the report is incomplete"
    return 1
  fi
}

visit_python() { check_with_python "$stranger"; }
visit_python-shared() { check_with_python "$stranger"; }
visit_python-off() { check_with_python "$stranger"; }

check_with_python() {
  install_python_packages
  within_time "$venv/bin/python" "$here/python/check.py" "$address" --policy "$policy" \
    --program "$target/release/sockeye" --name "$1"
}

visit_node() { check_with_node "$stranger"; }
visit_node-shared() { check_with_node "$stranger"; }
visit_node-off() { check_with_node "$stranger"; }

check_with_node() {
  local options=()
  install_node_modules
  # Before Node 22 its own WebSocket has to be asked for.
  if [ "$(node -p 'typeof WebSocket')" = undefined ] &&
    node --experimental-websocket -e 0 2>/dev/null; then
    options=(--experimental-websocket)
  fi
  within_time node "${options[@]}" "$work/node/check.mjs" "$address" "$policy" "$1"
}

visit_chromium() { check_with_chromium "$stranger"; }
visit_chromium-shared() { check_with_chromium "$stranger"; }
visit_chromium-off() { check_with_chromium "$stranger"; }

check_with_chromium() {
  [ -x "${CHROMIUM:-/usr/bin/chromium}" ] ||
    missing "Chromium" "Debian's package chromium, or set CHROMIUM to the program's path"
  install_node_modules
  within_time node "$work/node/chromium.mjs" "$address" "$policy" "$1"
}
