# Clients that others wrote, against `sockeye serve`.

readonly STOP_SECONDS=10

start_sockeye() {
  local begin=$SECONDS
  if start sockeye "$target/release/sockeye" serve --listen 127.0.0.1:0 --max-message 16MiB; then
    tally start 1 0 "$begin"
    return
  fi
  tally start 0 1 "$begin"
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
    tally stop 1 0 "$begin"
  else
    echo "FAIL after SIGTERM the program's exit code was $status instead of 0"
    tail -n 20 "$work/sockeye.stderr"
    tally stop 0 1 "$begin"
  fi
}

visit_autobahn() {
  local log=$work/autobahn-suite.log
  install_autobahn autobahn server "$address"
  # It names every case as it goes and says no more: that is kept for when something goes wrong.
  echo "running the suite; what it says is in $log"
  within_time "$suite/wstest" -m fuzzingclient -s "$spec" >"$log" 2>&1
  if grep "^Connection to .* failed" "$log"; then
    echo "FAIL the program stopped taking connections, so the report is incomplete"
    return 1
  fi
  judge_autobahn autobahn server
}

visit_python() {
  install_python_packages
  within_time "$venv/bin/python" "$here/python/check.py" "$address"
}

visit_node() {
  local options=()
  install_node_modules
  # Before Node 22 its own WebSocket has to be asked for.
  if [ "$(node -p 'typeof WebSocket')" = undefined ] &&
    node --experimental-websocket -e 0 2>/dev/null; then
    options=(--experimental-websocket)
  fi
  within_time node "${options[@]}" "$work/node/check.mjs" "$address"
}

visit_chromium() {
  [ -x "${CHROMIUM:-/usr/bin/chromium}" ] ||
    missing "Chromium" "Debian's package chromium, or set CHROMIUM to the program's path"
  install_node_modules
  within_time node "$work/node/chromium.mjs" "$address"
}
