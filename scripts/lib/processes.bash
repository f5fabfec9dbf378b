# Sourced by the scripts beside this directory: servers as plain processes, each with NAME.pid and
# NAME.log in the directory $dir, and web pages of theirs.
#
# A pid file holds the process id and when the process began (in clock ticks since the machine
# did), so a process that has the id by chance is never taken for ours.

# began <pid>: when; fails if it does not run.
began() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # "PID (NAME) STATE ...", where NAME may hold anything; a zombie has ended.
    local -a fields
    read -ra fields <<<"${stat##*) }"
    case ${fields[0]} in Z | X) return 1 ;; esac
    echo "${fields[19]}"
}

# pid_of <name>: its process id; fails if it does not run.
pid_of() {
    local pid when
    { read -r pid when <"$dir/$1.pid"; } 2>/dev/null || return 1
    [ -n "$when" ] && [ "$(began "$pid")" = "$when" ] && echo "$pid"
}

runs() {
    pid_of "$1" >/dev/null
}

# spawn <name> <command...>: starts it; it does not end with this script or its terminal, and does
# not hold this script's lock.
spawn() {
    local name=$1
    shift
    echo "--- $(date '+%F %T') starting $name" >>"$dir/$name.log"
    setsid "$@" </dev/null >>"$dir/$name.log" 2>&1 9>&- &
    local pid=$!
    echo "$pid $(began "$pid")" >"$dir/$name.pid"
}

# wait_until <name> <seconds> <what> <condition...>: fails, with the end of the log, if the process
# ends first or the time is over.
wait_until() {
    local name=$1 seconds=$2 what=$3 deadline=$((SECONDS + $2))
    shift 3
    until "$@"; do
        runs "$name" || fail "$name has ended instead of being $what. Its log, $dir/$name.log, ends with
$(tail -n 15 "$dir/$name.log")"
        [ $SECONDS -lt $deadline ] || fail "$name is not $what after $seconds s. Its log, $dir/$name.log, ends with
$(tail -n 15 "$dir/$name.log")"
        sleep 0.1
    done
}

# signal <name> <signal>: nothing happens if it does not run.
signal() {
    local pid
    if pid=$(pid_of "$1"); then kill -s "$2" "$pid" 2>/dev/null || true; fi
}

# wait_for_end <name> <seconds>: kills it when the time is over, and says so.
wait_for_end() {
    local deadline=$((SECONDS + $2))
    while runs "$1"; do
        if [ $SECONDS -ge $deadline ]; then
            echo "$1 has not ended in $2 s: it is killed" >&2
            signal "$1" KILL
            deadline=$((SECONDS + 10))
        fi
        sleep 0.1
    done
    rm -f "$dir/$1.pid"
}

# terminate <name> <seconds>
terminate() {
    signal "$1" TERM
    wait_for_end "$1" "$2"
}

listens() {
    (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# check_ports <name> <port...>: fails if somebody else listens there, and says who. What a process leaves
# behind that was killed goes within moments.
check_ports() {
    local name=$1 port who tries
    shift
    for port in "$@"; do
        for tries in {1..100}; do
            listens "$port" || continue 2
            ss -Hltnp "sport = :$port" 2>/dev/null | grep -q users: && break
            sleep 0.1
        done
        who=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (process \2)/p' | head -n 1 || true)
        fail "port $port, for $name, is taken by ${who:-another process}:
end that process, or choose other ports ($other_ports)"
    done
}

# get <address and path>: the body of a page; fails unless it is 200.
get() {
    curl -sf --noproxy '*' --max-time 5 "http://$1"
}
answers() {
    get "$1" >/dev/null
}
