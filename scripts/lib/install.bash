# Sourced by the scripts beside this directory, in the top directory of the project: installs what
# they need on a bare Debian machine, as root or by sudo.

[ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
# Where Debian keeps servers, and not everybody looks.
PATH=$PATH:/usr/sbin

fail() {
    echo "$*" >&2
    exit 1
}
has() {
    command -v "$1" >/dev/null
}
# version_at_least <version> <minimum>
version_at_least() {
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -1)" = "$2" ]
}
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        has sudo || fail "run this as root, for there is no sudo here: $*"
        sudo "$@"
    fi
}

# install_packages <package...>
install_packages() {
    [ $# -gt 0 ] || return 0
    has apt-get || fail "install these first: $*"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# What Debian calls the compiler, if there is none.
missing_compiler() {
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    has cc || echo gcc libc6-dev
}

install_rust() {
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! has cargo && ! has rustup && apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        as_root apt-get install -q -y --no-install-recommends rustup
    fi
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
    if ! version_at_least "${found:-0}" "$needed"; then
        has rustup || fail "cargo is ${found:-missing}, and must be $needed or newer. Install it by
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy
(https://rustup.rs; apt-get install curl brings curl), and run this again"
        rustup toolchain install stable --profile minimal -c rustfmt -c clippy
        rustup default stable
    fi
}
