#!/bin/sh
# Install those of the named Debian or Ubuntu packages that the base image lacks; asks the network for nothing if it
# has them all.
set -eu
missing=
for package in "$@"; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || state=absent
    [ "$state" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of names
    apt-get install -y -qq --no-install-recommends $missing
    rm -rf /var/lib/apt/lists/*
fi
