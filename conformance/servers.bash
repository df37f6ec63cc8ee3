# Servers that others wrote, and one by hand, against sockeye's client. Each runs in the subshell of its
# visit and ends with it.

visit_autobahn-server() {
  local begin log=$work/autobahn-server-suite.log
  address=127.0.0.1:$(free_port)
  install_autobahn autobahn-server client "$address"
  trap end_program EXIT
  # It names every case as it goes and says no more: that is kept for when something goes wrong.
  echo "running the suite; what it says is in $log"
  begin=$SECONDS
  "$suite/wstest" -m fuzzingserver --webport 0 -s "$spec" >"$log" 2>&1 &
  program_pid=$!
  until listens; do
    if ! starting "$begin"; then
      echo "FAIL the suite does not listen on $address"
      tail -n 20 "$log"
      return 1
    fi
    sleep 0.1
  done
  within_time "$target/release/sockeye-conformance" autobahn "$address"
  judge_autobahn autobahn-server client
}

visit_python-server() {
  install_python_packages
  check_client python-server library "$venv/bin/python" "$here/python/server.py"
}

visit_node-server() {
  install_node_modules
  check_client node-server library node "$work/node/server.mjs"
}

visit_byhand-server() {
  need python3 python3
  PYTHONDONTWRITEBYTECODE=1 check_client byhand-server byhand python3 "$here/python/byhand.py"
}

# Starts a server and lets the client's checks of this kind run: check_client NAME KIND COMMAND...
check_client() {
  local name=$1 kind=$2
  shift 2
  trap end_program EXIT
  start "$name" "$@" || return 1
  within_time "$target/release/sockeye-conformance" "$kind" "$address" --name "$name"
}

# A port for a server that cannot be told to choose one itself.
free_port() {
  python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

listens() {
  (exec 3<>"/dev/tcp/${address/://}") 2>/dev/null
}
