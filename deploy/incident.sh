#!/usr/bin/env bash
# Breaks a running installation in several ways, and holds that each fires its alert and no other, that the alert goes
# when the trouble is over, and that the commands of its runbook work.
#
#   deploy/incident.sh [INCIDENT…]      without names, all of them
#
# A broker, the simulated CRMs, a worker and a Prometheus run on private ports, as in check.sh, which says what is needed and has
# fetched it. PROGRAM is the program, default: the one that cargo build makes. The times of the rules are divided by
# INCIDENT_SCALE (default 30: a minute takes two seconds); the pauses of the worker are short, too, by settings that stand below.
set -euo pipefail

deploy=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scale=${INCIDENT_SCALE:-30}
program=${PROGRAM:-${CARGO_TARGET_DIR:-$deploy/../target}/debug/contact-replicator}
python=$(echo "${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}"/contact-replicator/kubernetes-validate-*/bin/python)
scratch=$(mktemp -d)
# shellcheck source=check/trial.sh
source "$deploy/check/trial.sh"

clean() {
    local status=$?
    ((status == 0)) || tail -n 5 "$scratch"/*.log >&2 || true
    trial_end
    rm -rf "$scratch"
    exit "$status"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

[[ -x $program && -x ${python%% *} ]] || { echo "run deploy/check.sh first, and cargo build" >&2; exit 1; }
python=${python%% *}

firing() {
    fetch --get "$prometheus/api/v1/query" --data-urlencode 'query=count by (alertname) (ALERTS{alertstate="firing"})' |
        grep --only-matching '"alertname":"[A-Za-z]*"' | cut -d'"' -f4 | sort | paste -sd' ' || true
}

is_firing() { [[ $(firing) == "$*" ]]; }

# What is to be known if another alert fires, or none.
unexpected() {
    echo "firing: $(firing)" >&2
    fetch "$prometheus/api/v1/alerts" >&2
    fetch "http://$admin/metrics" | grep -E '_(crm_paused|request_duration_seconds_count|contacts_parked|entries_pending)' | grep -v ' 0$' >&2
    return 1
}

# What a runbook says, with this installation's settings, addresses and names in place of the examples.
runbook() {
    local alert=$1 crm=$2 line status
    while IFS= read -r line; do
        line=${line//config.toml/$scratch\/worker.toml}
        line=${line//127.0.0.1:9464/$admin}
        line=${line//--crm priava/--crm $crm}
        line=${line/% data/ $scratch\/data}
        status=0
        case $line in
        "contact-replicator "*) (eval "ask ${line#contact-replicator }") >"$scratch/runbook.log" 2>&1 || status=$? ;;
        "kafka-console-consumer.sh --bootstrap-server BROKER --topic "*)
            line=${line#*--topic }
            line=${line/ --from-beginning --isolation-level read_committed/}
            (eval "kafka console $line --max-messages 1") >"$scratch/runbook.log" 2>&1 || status=$?
            ;;
        *) (eval "$line") >"$scratch/runbook.log" 2>&1 || status=$? ;;
        esac
        # 1 is an answer, too: something was found wrong. Of a worker that is gone curl and what asks it say so.
        if ((status > 1)) && [[ ${may_be_gone:-} != yes || $status -lt 3 ]]; then
            echo "$alert: $line: ended with $status" >&2
            cat "$scratch/runbook.log" >&2
            return 1
        fi
        echo "   $status  ${line//$scratch\//}"
    done < <("$python" "$deploy/check/runbook.py" "$deploy" "$alert")
}

number=1000
# Priava insists on one.
phone=',"phoneNumbers":[{"value":"+4930123456","type":"work"}]'
# So many contacts, each with these further members; or as many changes of fewer contacts (`different`).
publish() {
    local count=$1 more=${2:-} each
    for ((each = 0; each < count; each++)); do
        number=$((number + 1))
        event "$number" "s-$((number % ${different:-(number + 1)}))" "{\"name\":{\"givenName\":\"A$number\",\"familyName\":\"B\"},\"emails\":[{\"value\":\"a$number@example.com\"}]$phone$more}"
    done >"$scratch/changes.ndjson"
    ask publish --config "$scratch/worker.toml" "$scratch/changes.ndjson" >"$scratch/publish.log" 2>&1
}

faults() { fetch "http://$crms/$1/_sandbox/faults" --data "$2" --output "$scratch/ignored"; }
always() { echo "{\"windows\":[{\"from\":\"0s\",\"lasts\":\"1h\",\"fault\":{\"instead\":{\"kind\":\"status\",\"status\":$1}}}]}"; }

# An incident: what breaks, what fires, whose runbook, what mends it.
crm_down() {
    faults previsto "$(always 503)"
    publish 30
    expect previsto ContactReplicatorCrmDown
    faults previsto '{}'
}
crm_refuses_us() {
    fetch "http://$crms/priava/_sandbox/tokens" --data '["another"]' --output "$scratch/ignored"
    publish 30
    expect priava ContactReplicatorCrmRefusesUs
    fetch "http://$crms/priava/_sandbox/tokens" --data '["sandbox-token"]' --output "$scratch/ignored"
}
rejected() {
    faults previsto "$(always 422)"
    publish 30
    expect previsto ContactReplicatorRejected
    faults previsto '{}'
}
dead_letters() {
    event 1 bad '{"emails":5}' >"$scratch/bad.ndjson"
    ask publish --config "$scratch/worker.toml" "$scratch/bad.ndjson" >"$scratch/publish.log" 2>&1 || true
    expect previsto ContactReplicatorDeadLetters
}
consent() {
    publish 1 ',"consent":{"marketing":false}'
    expect previsto ContactReplicatorConsentNotExpressible
}
ambiguous() {
    local twice
    for twice in 1 2; do
        fetch "http://$crms/previsto/contacts" --user sandbox-token: --data "name=Cid Roth&email=twins@example.com" --output "$scratch/ignored"
    done
    event twins twins "{\"name\":{\"givenName\":\"Cid\",\"familyName\":\"Roth\"},\"emails\":[{\"value\":\"twins@example.com\"}]$phone}" >"$scratch/changes.ndjson"
    ask publish --config "$scratch/worker.toml" "$scratch/changes.ndjson" >"$scratch/publish.log" 2>&1
    expect previsto ContactReplicatorAmbiguousMatches
}
# A CRM is left alone while changes go on: of few contacts, so that others answer for many of them with one call.
lag_grows() {
    local different=20
    ask pause --crm previsto --reason "an incident" --config "$scratch/worker.toml" >"$scratch/pause.log"
    publish 1200
    # In a process of its own, whose numbers are not those of the events that come later.
    (
        number=1000000
        while publish 20; do sleep 1; done
    ) &
    local changes=$!
    trial_pids+=("$changes")
    expect previsto ContactReplicatorLagGrowing
    kill "$changes"
    wait "$changes" || true
    ask resume --crm previsto --reason "it is over" --config "$scratch/worker.toml" >"$scratch/pause.log"
}
# The view is damaged, and what it is built from comes late: the broker stands still.
view_rebuilds() {
    kill "$trial_worker"
    wait "$trial_worker" || true
    find "$scratch/data/view" -type f -exec truncate --size=100 {} +
    local broker
    read -r broker _ <"$scratch/kafka/pid"
    kill -STOP "$broker"
    trial_start_worker
    may_be_gone=yes expect previsto ContactReplicatorNobodyDecides ContactReplicatorViewRebuilding || {
        kill -CONT "$broker"
        return 1
    }
    kill -CONT "$broker"
}
worker_dies() {
    kill -KILL "$trial_worker"
    may_be_gone=yes expect previsto ContactReplicatorAbsent ContactReplicatorWorkerDown
    trial_start_worker
}

expect() {
    local crm=$1
    shift
    echo "   expects $*"
    within 180 is_firing "$@" || unexpected
    # No other follows.
    sleep 5
    is_firing "$@" || unexpected
    local alert
    for alert in "$@"; do
        runbook "$alert" "$crm"
    done
}

# What is divided in the rules is short for every CRM, too; and Previsto is not to have one field.
cat >"$scratch/change.sed" <<'SED'
s/^\[crm.delivery\]$/&\nfailures_before_pause = 5\nprobe_delay = "500ms"\nprobe_delay_max = "1s"/
s/^plant_number = true$/&\n[crm.fields]\n"meta.consentMarketing" = { omit = true }/
SED
incidents=("${@:-}")
[[ -n ${incidents[0]} ]] || incidents=(crm_down crm_refuses_us rejected dead_letters consent ambiguous lag_grows view_rebuilds worker_dies)

"$python" "$deploy/check/scale.py" "$scale" "$deploy/prometheus/rules" "$scratch/rules"
promtool check rules "$scratch"/rules/*.yml >"$scratch/rules.log"
trial_kafka
trial_worker "$(cat "$scratch/change.sed")"
trial_prometheus "$scratch/rules"
publish 5
event first 4711 "{\"name\":{\"givenName\":\"Ada\",\"familyName\":\"Lovelace\"},\"emails\":[{\"value\":\"ada@example.com\"}]$phone}" >"$scratch/changes.ndjson"
ask publish --config "$scratch/worker.toml" "$scratch/changes.ndjson" >"$scratch/publish.log" 2>&1
within 60 ask explain shop/4711 --config "$scratch/worker.toml"

for incident in "${incidents[@]}"; do
    echo "-- $incident (after $SECONDS s)"
    within 300 is_firing ""
    "$incident"
done
within 300 is_firing ""
echo "${#incidents[@]} incidents, each with its alert and no other (after $SECONDS s)"
