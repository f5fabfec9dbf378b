# Sourced by the scripts beside this directory, after processes.bash: a RabbitMQ of our own in
# $dir, whatever else runs on the machine.
#
# It has its own name, cookie, data and epmd (the port mapper of Erlang), all on 127.0.0.1; nothing
# in /etc/rabbitmq or /var/lib/rabbitmq is read or written. User guest, password guest.
#
# $rabbitmq_port is for AMQP clients; the next four are for Erlang: distribution, epmd, and two for
# rabbitmqctl.

readonly rabbitmq_bin=/usr/lib/rabbitmq/bin

# rabbitmq_environment: the words before a command of this RabbitMQ. Every variable that has a
# default in /etc or /var is set.
set_rabbitmq_environment() {
    local data=$dir/rabbitmq loopback='-kernel inet_dist_use_interface {127,0,0,1}'
    rabbitmq_environment=(
        env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C.UTF-8 HOME="$data"
        ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$((rabbitmq_port + 2))
        RABBITMQ_NODENAME=footbridge@localhost
        RABBITMQ_NODE_PORT="$rabbitmq_port" RABBITMQ_DIST_PORT=$((rabbitmq_port + 1))
        RABBITMQ_CTL_DIST_PORT_MIN=$((rabbitmq_port + 3))
        RABBITMQ_CTL_DIST_PORT_MAX=$((rabbitmq_port + 4))
        RABBITMQ_CONF_ENV_FILE="$data/rabbitmq-env.conf" RABBITMQ_CONFIG_FILE="$data/rabbitmq.conf"
        RABBITMQ_CONFIG_FILES="$data/conf.d" RABBITMQ_ADVANCED_CONFIG_FILE="$data/advanced.config"
        RABBITMQ_GENERATED_CONFIG_DIR="$data/config" RABBITMQ_SCHEMA_DIR="$data/schema"
        RABBITMQ_ENABLED_PLUGINS_FILE="$data/enabled_plugins"
        RABBITMQ_MNESIA_BASE="$data/mnesia" RABBITMQ_LOG_BASE="$data/log" RABBITMQ_LOGS=-
        # The script then becomes the virtual machine, so its process id is RabbitMQ's.
        RABBITMQ_ALLOW_INPUT=true RABBITMQ_SERVER_START_ARGS=-noinput
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$loopback" RABBITMQ_CTL_ERL_ARGS="$loopback"
    )
}

# Fails if another process has one of its ports.
check_rabbitmq_ports() {
    runs epmd || check_ports epmd $((rabbitmq_port + 2))
    check_ports rabbitmq "$rabbitmq_port" $((rabbitmq_port + 1))
}

# start_rabbitmq <plugins> [line of rabbitmq.conf...]: plugins with commas between, or ''. Returns
# when AMQP clients can connect.
start_rabbitmq() {
    local plugins=$1 data=$dir/rabbitmq
    shift
    set_rabbitmq_environment
    mkdir -p "$data"
    printf '%s\n' "listeners.tcp.1 = 127.0.0.1:$rabbitmq_port" "$@" >"$data/rabbitmq.conf"
    echo "[$plugins]." >"$data/enabled_plugins"
    if [ ! -e "$data/.erlang.cookie" ]; then
        # Erlang refuses a cookie that others may read.
        (umask 077 && head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$data/.erlang.cookie")
    fi
    if ! runs epmd; then
        # Ours, so that RabbitMQ finds one and starts none that would stay behind.
        spawn epmd "${rabbitmq_environment[@]}" epmd -address 127.0.0.1 -port $((rabbitmq_port + 2))
        wait_until epmd 30 listening listens $((rabbitmq_port + 2))
    fi
    spawn rabbitmq "${rabbitmq_environment[@]}" "$rabbitmq_bin/rabbitmq-server"
    wait_until rabbitmq 120 listening listens "$rabbitmq_port"
}

rabbitmqctl() {
    set_rabbitmq_environment
    "${rabbitmq_environment[@]}" "$rabbitmq_bin/rabbitmqctl" --quiet "$@"
}

# It closes its connections and writes what is durable.
stop_rabbitmq() {
    terminate rabbitmq 60
    terminate epmd 10
}
