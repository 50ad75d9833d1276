#!/usr/bin/env bash
# Holds everything in this folder to the tools that it is for. Part of .ci/run.
#
#   deploy/check.sh
#
# Rules and their tests with promtool; the chart with helm and the schemas of Kubernetes; the steps of the Dockerfile; then the
# processes of compose.yaml without containers: a broker, the simulated CRMs, a worker as the image runs it, and a Prometheus
# that is asked every expression of rules, dashboard and runbooks. Neither images nor Grafana are run: there is no container
# engine here.
#
# Fetches what is missing: Prometheus and OpenSSL's headers as root from Debian's packages, helm from its Go module, the schemas
# from PyPI, Kafka with Maven. They go to a cache, and into no project.
#
#   HELM_VERSION        default: v3.22.0
#   KUBERNETES_VALIDATE version on PyPI, default: 1.37.0
set -euo pipefail

deploy=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$deploy")
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/contact-replicator
helm_version=${HELM_VERSION:-v3.22.0}
validate_version=${KUBERNETES_VALIDATE:-1.37.0}
chart=$deploy/helm/contact-replicator
scratch=$(mktemp -d)
# shellcheck source=check/trial.sh
source "$deploy/check/trial.sh"

clean() {
    local status=$?
    trial_end
    rm -rf "$scratch"
    exit "$status"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() {
    printf '\n-- %s (after %d s)\n' "$1" "$SECONDS"
}

need() {
    local missing=()
    command -v promtool >/dev/null || missing+=(prometheus)
    command -v curl >/dev/null || missing+=(curl)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    pkg-config --exists openssl 2>/dev/null || missing+=(pkg-config libssl-dev)
    ((${#missing[@]})) || return 0
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "missing: ${missing[*]}. On Debian or Ubuntu: sudo apt-get install ${missing[*]}" >&2
        return 1
    fi
}

need_validate() {
    local venv=$cache/kubernetes-validate-$validate_version
    python=$venv/bin/python
    if [[ ! -x $venv/bin/kubernetes-validate ]]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$validate_version"
    fi
    validate=$venv/bin/kubernetes-validate
}

need_helm() {
    helm=$(command -v helm || true)
    [[ -z $helm ]] || return 0
    helm=$cache/helm-$helm_version/helm
    [[ -x $helm ]] || GOBIN=$(dirname "$helm") GOFLAGS=-modcacherw go install "helm.sh/helm/v3/cmd/helm@$helm_version"
}

render() {
    "$helm" template "$1" "$chart" --kube-version 1.33.0 "${@:2}" 2>"$scratch/helm.log" || {
        cat "$scratch/helm.log" >&2
        return 1
    }
}

# What a value must be refused with.
refused() {
    local says=$1
    shift
    if "$helm" template refused "$chart" --kube-version 1.33.0 "$@" >"$scratch/refused.log" 2>&1; then
        echo "the chart takes $*" >&2
        return 1
    fi
    grep --quiet -- "$says" "$scratch/refused.log" || {
        cat "$scratch/refused.log" >&2
        return 1
    }
}

step "tools"
need
need_validate
need_helm
prometheus --version 2>&1 | head -1
"$helm" version --short
"$validate" --version

step "rules of Prometheus"
promtool check rules "$deploy"/prometheus/rules/*.yml
promtool check config "$deploy/prometheus/prometheus.yml" >"$scratch/config.log" || { cat "$scratch/config.log"; exit 1; }
promtool test rules "$deploy"/prometheus/tests/*.yml

step "steps of the Dockerfile"
"$python" "$deploy/check/dockerfile.py" "$deploy/Dockerfile" steps "$scratch"
for script in "$scratch"/run-*.sh; do
    bash -n "$script"
done
# Built as the image's program is, but for speed: with what is built already.
cargo_step=$(grep --files-with-matches 'cargo build' "$scratch"/run-*.sh)
mkdir "$scratch/out"
target=${CARGO_TARGET_DIR:-$root/target}
sed -i "s#--release ##; s#target/release/#$target/debug/#; s#/out/#$scratch/out/#" "$cargo_step"
(cd "$root" && bash "$cargo_step")
program=$scratch/out/contact-replicator
chmod 711 "$scratch"
if [[ $(id -u) == 0 ]] && unshare --mount true 2>/dev/null; then
    # On copies: the machine keeps its packages and users.
    cp -a /etc "$scratch/etc"
    unshare --mount bash -euc "mount --make-rprivate / && mount --bind '$scratch/etc' /etc && mount -t tmpfs tmpfs /var/lib
        bash '$(grep --files-with-matches useradd "$scratch"/run-*.sh)'
        [[ \$(stat -c %u:%g:%a /var/lib/contact-replicator) == 10001:10001:700 ]]"
    rm -rf "$scratch/etc"
fi
if command -v apt-get >/dev/null; then
    grep --only-matching 'apt-get install [^&]*' "$scratch"/run-*.sh | sed 's/^[^:]*://; s/--yes/--simulate --quiet=2/' | bash >"$scratch/apt.log" || {
        cat "$scratch/apt.log"
        exit 1
    }
fi

step "alerts, their tests and their runbooks"
"$python" "$deploy/check/alerts.py" "$deploy" "$program"

step "chart"
"$helm" lint --strict --quiet "$chart" 2>/dev/null
render defaults >"$scratch/defaults.yaml"
render everything --values "$chart/ci/everything-values.yaml" >"$scratch/everything.yaml"
for manifest in defaults everything; do
    "$validate" --strict --quiet --no-warn "$scratch/$manifest.yaml"
    "$python" "$deploy/check/chart.py" "$scratch/$manifest.yaml" "$scratch/$manifest"
done
promtool check rules "$scratch/everything.rules.yml"
refused 'leave out \[worker\]' --set-string 'config=[worker]'
refused 'at least 26' --set terminationGracePeriodSeconds=20
refused 'token_file' --set ingest.enabled=true
refused 'name a Secret' --set secret.existing=

step "the trial of compose.yaml, without containers"
"$python" "$deploy/check/compose.py" "$deploy/compose.yaml"
trial_kafka
trial_worker
mapfile -t health < <("$python" "$deploy/check/dockerfile.py" "$deploy/Dockerfile" health)
"${health[@]/127.0.0.1\/9464/${admin/://}}"
! "${health[@]/127.0.0.1\/9464/127.0.0.1/1}" 2>/dev/null

step "settings of the chart"
mkdir "$scratch/secrets"
for name in identity kafka priava previsto ingest; do
    echo 0123456789abcdef0123456789abcdef >"$scratch/secrets/$name"
done
for manifest in defaults everything; do
    # With a name of its own for each topic: those of the trial have one replica, which is too few for these settings.
    local_settings <"$scratch/$manifest.toml" |
        sed "s#https://api[^\"]*#http://$crms#; \$a [topics]\nprefix = \"chart.\"" >"$scratch/checked.toml"
    status=0
    POD_NAME=contact-replicator-0 "$program" check --config "$scratch/checked.toml" >"$scratch/checked.log" 2>&1 || status=$?
    # The broker here has neither TLS nor users, which the settings with every switch ask for.
    if [[ $manifest == defaults && $status != 0 ]] || ! grep --quiet '^ok    settings$' "$scratch/checked.log"; then
        cat "$scratch/checked.log"
        exit 1
    fi
done

step "every expression, asked of a Prometheus that scrapes the worker"
trial_prometheus "$deploy/prometheus/rules"
{
    event 1 4711 '{"name":{"givenName":"Ada","familyName":"Lovelace"},"emails":[{"value":"ada@example.com"}],"phoneNumbers":[{"value":"+4930123456","type":"work"}],"attributes":{"tier":"gold"}}'
    event 2 4712 '{"name":{"givenName":"Bob","familyName":"Lovelace"},"emails":[{"value":"ada@example.com"}],"consent":{"marketing":false}}'
} >"$scratch/changes.ndjson"
ask publish --config "$scratch/worker.toml" "$scratch/changes.ndjson"
within 30 ask explain shop/4712 --config "$scratch/worker.toml"
within 60 has_value 'crm:contact_replicator_outcomes_on_time:ratio_rate1h{crm="previsto"}'
"$python" "$deploy/check/expressions.py" "$deploy" "$deploy/METRICS.md" "$prometheus" "http://$admin/metrics"

step "the worker ends in order"
kill "$trial_worker"
wait "$trial_worker"
echo "deploy/ holds (after $SECONDS s)"
