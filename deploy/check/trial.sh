# The processes of compose.yaml without containers, on private ports: what check.sh and incident.sh start and ask.
#
# To be sourced. Wants `deploy`, `scratch`, `python` and `program`; sets `kafka`, `crms`, `admin`, `operators` and `prometheus`.
# Whoever sources it calls trial_end on the way out. Every process is started, and ended, by its number.

# shellcheck source=ports.sh
source "$deploy/check/ports.sh"
export PYTHONDONTWRITEBYTECODE=1
trial_pids=()
trial_root=(env)

trial_end() {
    local pid
    for pid in "${trial_pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${trial_pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    trial_pids=()
    [[ -z ${kafka_port:-} ]] || kafka stop >"$scratch/kafka-stop.log" 2>&1 || cat "$scratch/kafka-stop.log" >&2
    kafka_port=
}

kafka() {
    KAFKA_DATA=$scratch/kafka KAFKA_PORT=$kafka_port KAFKA_HEAP=512m KAFKA_MORE_PROPERTIES=$scratch/kafka.properties "$deploy/kafka/kafka.sh" "$@"
}

# Waits until a command succeeds.
within() {
    local seconds=$1 end=$((SECONDS + $1))
    shift
    until "$@" >"$scratch/within.log" 2>&1; do
        if ((SECONDS >= end)); then
            echo "not within $seconds s: $*" >&2
            cat "$scratch/within.log" >&2
            return 1
        fi
        sleep 0.3
    done
}

fetch() {
    curl --silent --show-error --fail --max-time 10 "$@"
}

# A line of settings each, as compose.yaml has them but for names of hosts, ports and folders, which containers have their own of.
local_settings() {
    sed "s#kafka:909[0-9]#$kafka#; s#http://crms:8701#http://$crms#; s#0.0.0.0:9464#$admin#; s#127.0.0.1:9465#$operators#
        s#0.0.0.0:8700#$ingest#; s#/var/lib/contact-replicator#$scratch/data#; s#/run/secrets/contact-replicator#$scratch/secrets#"
}

# The node of compose.yaml with its own settings, but for listeners and folders, and the topic that its service `topics` makes.
trial_kafka() {
    kafka_port=$(free_port)
    kafka=127.0.0.1:$kafka_port
    "$python" "$deploy/check/compose.py" "$deploy/compose.yaml" kafka |
        grep -Ev '^(node.id|process.roles|log.dirs|.*listener.*|controller.quorum.*)=' >"$scratch/kafka.properties"
    kafka start
    local words
    mapfile -t words < <("$python" "$deploy/check/compose.py" "$deploy/compose.yaml" service topics | tail -n +4)
    kafka topics "${words[@]}"
}

# Its simulated CRMs and one worker, whose settings a script of sed may change. As root the worker runs as the image's user, on a root file system that it cannot write to.
trial_worker() {
    local variables words change=${1:-} port
    port=$(free_port)
    crms=127.0.0.1:$port admin=127.0.0.1:$((port + 1)) operators=127.0.0.1:$((port + 2)) ingest=127.0.0.1:$((port + 3))
    mkdir -p "$scratch/data"
    local_settings <"$deploy/compose/worker.toml" | sed "$change" >"$scratch/worker.toml"
    mapfile -t variables < <("$python" "$deploy/check/compose.py" "$deploy/compose.yaml" variables worker-1)
    mapfile -t words < <("$python" "$deploy/check/compose.py" "$deploy/compose.yaml" service crms | sed "s/0.0.0.0:8701/$crms/")
    "$program" "${words[@]}" >"$scratch/crms.log" 2>&1 &
    trial_pids+=($!)
    within 20 fetch "http://$crms/priava/_sandbox/contacts"

    env "${variables[@]}" "$program" check --config "$scratch/worker.toml"

    local user
    user=$("$python" "$deploy/check/dockerfile.py" "$deploy/Dockerfile" user)
    # In a mount namespace of its own all of the root but its folder is for reading alone.
    local contain="mount --make-rprivate / && mount --bind '$scratch/data' '$scratch/data' && mount -o remount,ro,bind /"
    if [[ $(id -u) == 0 ]] && unshare --mount bash -c "$contain" 2>/dev/null; then
        chown -R "$user" "$scratch/data"
        chmod 711 "$scratch"
        trial_root=(unshare --mount bash -c "$contain && ! touch /usr/written 2>/dev/null && exec \"\$@\"" contained
            setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --no-new-privs)
        echo "the worker runs as $user and can write to nothing but its folder"
    else
        echo "not root, or no mount namespaces: the worker runs as $(id -un), on a file system that it could write to"
    fi
    trial_variables=("${variables[@]}")
    trial_start_worker
    within 60 fetch "http://$admin/readyz" || {
        cat "$scratch/worker.log" >&2
        return 1
    }
}

# That worker, also again. Returns at once.
trial_start_worker() {
    local words
    mapfile -t words < <("$python" "$deploy/check/compose.py" "$deploy/compose.yaml" service worker-1 |
        sed "s#/etc/contact-replicator/config.toml#$scratch/worker.toml#")
    "${trial_root[@]}" env "${trial_variables[@]}" "$program" "${words[@]}" >>"$scratch/worker.log" 2>&1 &
    trial_worker=$!
    trial_pids+=("$trial_worker")
}

# Prometheus as compose.yaml has it, but for its targets and its pace; with these rules.
trial_prometheus() {
    local rules=$1 port folder=$scratch/prometheus
    port=$(free_port)
    prometheus=http://127.0.0.1:$port
    mkdir -p "$folder"
    sed "s#\"worker-1:9464\", \"worker-2:9464\"#\"$admin\"#; s#_interval: 15s#_interval: 1s#; s#rule_files: .*#rule_files: [$rules/*.yml]#" \
        "$deploy/prometheus/prometheus.yml" >"$folder/prometheus.yml"
    promtool check config "$folder/prometheus.yml" >"$folder/check.log" || {
        cat "$folder/check.log" >&2
        return 1
    }
    prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" --web.listen-address="127.0.0.1:$port" \
        >"$folder/log" 2>&1 &
    trial_pids+=($!)
    # A counter rises only after it was seen once.
    within 30 has_value "count_over_time(up[1m]) > 2"
}

# Whether Prometheus has an answer to a query.
has_value() {
    fetch --get "$prometheus/api/v1/query" --data-urlencode "query=$1" | grep --quiet '"value":'
}

# The command of the program, with the environment that a worker of compose.yaml has.
ask() {
    env "${trial_variables[@]}" "$program" "$@"
}

# An event on a line: number of the event, subject, and data.
event() {
    printf '{"specversion":"1.0","id":"%s","source":"https://shop.example.com","type":"com.example.contact.created.v1","subject":"%s","data":%s}\n' "$@"
}
