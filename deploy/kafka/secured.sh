#!/usr/bin/env bash
# The node of kafka.sh with TLS, SASL and an authorizer that permits nobody anything, for tests.
#
#   secured.sh start    make certificates and passwords if there are none, and start the node
#   secured.sh stop     end it
#
# KAFKA_PORT and the four ports after it: PLAINTEXT, where everybody is a super user, for administration; the controller; SSL,
# which asks for a client's certificate; SASL_PLAINTEXT, which takes PLAIN; SASL_SSL, which takes SCRAM-SHA-512.
#
# KAFKA_DATA/clients has what clients need, made anew with each folder and of use to nobody else:
#   port               KAFKA_PORT
#   ca.pem             who signed the broker's certificate
#   stranger.pem       somebody who did not
#   client.pem, client.key    a certificate for the user `worker`
#   password           of the user `worker`, by PLAIN and by SCRAM-SHA-512
# The other settings are those of kafka.sh.
set -euo pipefail
umask 077

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export KAFKA_PORT=${KAFKA_PORT:-9192}
export KAFKA_DATA=${KAFKA_DATA:-$(cd "$here/../.." && pwd)/target/kafka-secured}
clients=$KAFKA_DATA/clients
broker=$KAFKA_DATA/broker

new_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null
}

# authority NAME: a certificate that signs others.
authority() {
    new_key "$1.key"
    openssl req -x509 -new -key "$1.key" -subj "/CN=authority" -days 2 -out "$1.pem"
}

# signed NAME SUBJECT EXTENSION: a certificate that our authority signed.
signed() {
    new_key "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$2" |
        openssl x509 -req -CA "$broker/ca.pem" -CAkey "$broker/ca.key" -CAcreateserial -days 2 -out "$1.pem" \
            -extfile <(echo "$3") 2>/dev/null
}

secrets() {
    mkdir -p "$clients" "$broker"
    authority "$broker/ca"
    authority "$broker/stranger"
    cp "$broker/ca.pem" "$broker/stranger.pem" "$clients"
    signed "$broker/node" broker "subjectAltName=IP:127.0.0.1"
    cat "$broker/node.key" "$broker/node.pem" >"$broker/node-with-key.pem"
    signed "$clients/client" worker "extendedKeyUsage=clientAuth"
    openssl rand -hex 16 >"$clients/password"
}

properties() {
    local password=$1 listeners="" listed
    for listed in PLAINTEXT:0 SSL:2 SASL_PLAINTEXT:3 SASL_SSL:4; do
        listeners+=${listeners:+,}${listed%:*}://127.0.0.1:$((KAFKA_PORT + ${listed#*:}))
    done
    cat <<PROPERTIES
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
listeners=$listeners,CONTROLLER://127.0.0.1:$((KAFKA_PORT + 1))
advertised.listeners=$listeners
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.principal.mapping.rules=RULE:^CN=([a-z]+)\$/\$1/
ssl.keystore.type=PEM
ssl.keystore.location=$broker/node-with-key.pem
ssl.truststore.type=PEM
ssl.truststore.location=$broker/ca.pem
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_worker="$password";
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
PROPERTIES
}

case ${1:-} in
start)
    [[ -f $clients/password ]] || secrets
    echo "$KAFKA_PORT" >"$clients/port"
    password=$(<"$clients/password")
    properties "$password" >"$broker/more.properties"
    export KAFKA_MORE_PROPERTIES=$broker/more.properties KAFKA_SCRAM="SCRAM-SHA-512=[name=worker,password=$password]"
    "$here/kafka.sh" start
    ;;
stop) "$here/kafka.sh" stop ;;
*)
    sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
