# Ports for servers that tests start, on loopback. To be sourced.

# The first of five in a row: a node takes some ports above its own.
free_port() {
    local port next
    while :; do
        port=$((20000 + RANDOM % 10000))
        for ((next = port; next < port + 5; next++)); do
            ! (: <"/dev/tcp/127.0.0.1/$next") 2>/dev/null || continue 2
        done
        echo "$port"
        return
    done
}
