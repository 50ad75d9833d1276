#!/usr/bin/env bash
# A single Apache Kafka node for development and tests, without containers; or a second one beside it.
#
#   kafka.sh install              fetch Kafka's jars with Maven
#   kafka.sh start                format storage if new, start in the background, wait until it answers
#   kafka.sh run                  the same in the foreground
#   kafka.sh status               whether the node of this folder runs and answers
#   kafka.sh stop                 end the node that `start` began, and no other
#   kafka.sh topics ARGS…         Kafka's own kafka-topics, e.g. `topics --list`
#   kafka.sh configs ARGS…        Kafka's own kafka-configs, e.g. `configs --describe --entity-type topics`
#   kafka.sh groups ARGS…         Kafka's own kafka-consumer-groups, e.g. `groups --all-groups --describe`
#   kafka.sh console TOPIC ARGS…  print a topic from its beginning, committed records only
#
# Settings, by environment variable:
#   KAFKA_HOME     jars           default: <cache>/contact-replicator/kafka-<version>, <cache> being XDG_CACHE_HOME or ~/.cache
#   KAFKA_DATA     state of the node: storage, log, pid      default: target/kafka of this project
#   KAFKA_PORT     port of the broker on 127.0.0.1           default: 9092; the controller takes the next one
#   and a listener for tests the one after that. It announces the fourth port, where a test puts a proxy to cut the line.
#   KAFKA_HEAP     heap of the node                          default: 1g
#   KAFKA_VERSION  default: 4.3.1
#   KAFKA_MORE_PROPERTIES  a file of further properties of the node, which go before those above; see secured.sh
#   KAFKA_SCRAM    a user to format the storage with, as StorageTool --add-scram takes it
#   KAFKA_JOINS    KAFKA_DATA of a node that has been started: this one becomes a second broker of its cluster, without a
#                  controller of its own. Topics have as many replicas as their settings say; see pair.properties
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KAFKA_VERSION:-4.3.1}
home=${KAFKA_HOME:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/contact-replicator/kafka-$version}
data=${KAFKA_DATA:-$(cd "$here/../.." && pwd)/target/kafka}
port=${KAFKA_PORT:-9092}
heap=${KAFKA_HEAP:-1g}
logging_version=2.25.4
joins=${KAFKA_JOINS:-}
controller_port=$((port + 1))
pid_file=$data/pid
properties=$data/server.properties
start_deadline_s=60
stop_deadline_s=30

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

need_java_and_maven() {
    local missing=()
    command -v java >/dev/null || missing+=(default-jre-headless)
    [[ ${1:-} != maven ]] || command -v mvn >/dev/null || missing+=(maven)
    ((${#missing[@]})) || return 0
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
    else
        fail "missing: ${missing[*]}. On Debian or Ubuntu: sudo apt-get install ${missing[*]}. Kafka needs Java 17 or newer."
    fi
}

install() {
    need_java_and_maven maven
    mkdir -p "$home"
    cat >"$home/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
    <!-- Without a binding the node fails in silence. -->
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$logging_version</version></dependency>
  </dependencies>
</project>
POM
    mvn --batch-mode --quiet --file "$home/pom.xml" dependency:copy-dependencies -DoutputDirectory="$home/libs"
    echo "Kafka $version is in $home"
}

java_class() {
    need_java_and_maven
    [[ -d $home/libs ]] || fail "no Kafka in $home; run: $0 install"
    java "$@"
}

tool() {
    local class=$1
    shift
    java_class -Xmx256m -cp "$home/libs/*" "$class" "$@"
}

# Writes the settings of this run and formats the storage once.
prepare() {
    [[ -d $home/libs ]] || install
    mkdir -p "$data"
    local listeners="PLAINTEXT://127.0.0.1:$port,PROXIED://127.0.0.1:$((port + 2))"
    {
        cat "$here/server.properties"
        echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port,PROXIED://127.0.0.1:$((port + 3))"
        echo "log.dirs=$data/storage"
        if [[ -n $joins ]]; then
            echo "listeners=$listeners"
            echo "process.roles=broker"
            echo "node.id=2"
            grep '^controller.quorum.bootstrap.servers=' "$joins/server.properties"
        else
            echo "listeners=$listeners,CONTROLLER://127.0.0.1:$controller_port"
            echo "controller.quorum.bootstrap.servers=127.0.0.1:$controller_port"
        fi
        # Of a property that stands twice, the last one holds.
        [[ -z ${KAFKA_MORE_PROPERTIES:-} ]] || cat "$KAFKA_MORE_PROPERTIES"
    } >"$properties"
    if [[ ! -f $data/storage/meta.properties ]]; then
        local cluster quorum=--standalone
        if [[ -n $joins ]]; then
            cluster=$(sed -n 's/^cluster.id=//p' "$joins/storage/meta.properties")
            quorum=--no-initial-controllers
        else
            cluster=$(tool kafka.tools.StorageTool random-uuid 2>/dev/null)
        fi
        tool kafka.tools.StorageTool format "$quorum" --cluster-id "$cluster" --config "$properties" \
            ${KAFKA_SCRAM:+--add-scram "$KAFKA_SCRAM"} >"$data/format.log" 2>&1 ||
            fail "formatting failed, see $data/format.log"
    fi
}

# The process that `start` began, if it still runs. The start time guards against a number that was given to another.
running_pid() {
    [[ -f $pid_file ]] || return 1
    local pid started
    read -r pid started <"$pid_file" || return 1
    [[ -n $pid && -r /proc/$pid/stat && $(started_at "$pid") == "$started" ]] || return 1
    echo "$pid"
}

# Clock tick at which a process began: field 22 of its stat, counted behind the parenthesised name.
started_at() {
    local stat
    stat=$(<"/proc/$1/stat") || return 1
    set -- ${stat##*) }
    echo "${20}"
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

broker() {
    exec java -Xms256m "-Xmx$heap" -XX:+UseG1GC -Djava.awt.headless=true -cp "$home/libs/*" kafka.Kafka "$properties"
}

start() {
    local pid
    if pid=$(running_pid); then
        echo "already running on 127.0.0.1:$port (process $pid)"
        return
    fi
    ! answers || fail "something else listens on 127.0.0.1:$port; choose another KAFKA_PORT"
    need_java_and_maven
    prepare
    (broker) >"$data/server.log" 2>&1 </dev/null &
    pid=$!
    disown "$pid"
    echo "$pid $(started_at "$pid")" >"$pid_file"
    for ((waited = 0; waited < start_deadline_s * 5; waited++)); do
        [[ -d /proc/$pid ]] || fail "the node ended while starting, see $data/server.log"
        if answers && tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" --list >/dev/null 2>&1; then
            echo "running on 127.0.0.1:$port (process $pid)"
            return
        fi
        sleep 0.2
    done
    fail "no answer on 127.0.0.1:$port within $start_deadline_s s, see $data/server.log"
}

stop() {
    local pid
    if ! pid=$(running_pid); then
        rm -f "$pid_file"
        echo "not running"
        return
    fi
    kill "$pid"
    for ((waited = 0; waited < stop_deadline_s * 5; waited++)); do
        if ! running_pid >/dev/null; then
            rm -f "$pid_file"
            echo "stopped"
            return
        fi
        sleep 0.2
    done
    fail "process $pid did not end within $stop_deadline_s s"
}

status() {
    local pid
    pid=$(running_pid) || { echo "not running"; return 1; }
    answers || { echo "process $pid runs but does not answer on 127.0.0.1:$port"; return 1; }
    echo "running on 127.0.0.1:$port (process $pid)"
}

command=${1:-}
[[ $# == 0 ]] || shift
case $command in
install) install ;;
start) start ;;
run)
    need_java_and_maven
    prepare
    broker
    ;;
stop) stop ;;
status) status ;;
topics) tool org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" "$@" ;;
configs) tool kafka.admin.ConfigCommand --bootstrap-server "127.0.0.1:$port" "$@" ;;
groups) tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "127.0.0.1:$port" "$@" ;;
console)
    topic=${1:-}
    [[ -n $topic ]] || fail "console needs a topic"
    shift
    tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "127.0.0.1:$port" --topic "$topic" \
        --from-beginning --isolation-level read_committed "$@"
    ;;
*)
    sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    [[ $command == help ]] || exit 2
    ;;
esac
