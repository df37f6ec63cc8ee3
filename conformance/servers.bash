# Servers that others wrote, and one by hand, against sockeye's client. Each runs in the subshell of its
# visit and ends with it.

visit_autobahn-server() {
  install_autobahn
  run_autobahn "$stranger" client visit_fuzzer
}

# One part of the suite's cases, as a server.
visit_fuzzer() {
  local begin=$SECONDS log=$work/$1-suite.log
  address=127.0.0.1:$(free_port)
  specify "$1" "$2"
  trap end_program EXIT
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
}

visit_python-server() { check_client_with_python; }
visit_python-server-plain() { check_client_with_python --no-compression; }

check_client_with_python() {
  install_python_packages
  start_server "$venv/bin/python" "$here/python/server.py"
  check_client library "$@"
}

visit_node-server() { check_client_with_node; }
visit_node-server-plain() { check_client_with_node --no-compression; }

check_client_with_node() {
  install_node_modules
  start_server node "$work/node/server.mjs"
  check_client library "$@"
}

visit_byhand-server() {
  need python3 python3
  PYTHONDONTWRITEBYTECODE=1 start_server python3 "$here/python/byhand.py"
  check_client byhand
}

# Starts the server that is visited: start_server COMMAND...
start_server() {
  trap end_program EXIT
  start "$stranger" "$@"
}

# Lets the client's checks of this kind run: check_client KIND OPTION...
check_client() {
  within_time "$target/release/sockeye-conformance" "$1" "$address" --name "$stranger" "${@:2}"
}

# A port for a server that cannot be told to choose one itself.
free_port() {
  python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

listens() {
  (exec 3<>"/dev/tcp/${address/://}") 2>/dev/null
}
