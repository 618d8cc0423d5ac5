#!/bin/sh
# Install the Debian packages of requirements/operate.debian that are missing, without starting their services.
# Where that is impossible it says why and succeeds: the tests that need a package skip without it.
set -eu
list="$(dirname "$0")/operate.debian"
missing=
while read -r package file; do
    case $package in '' | '#'*) continue ;; esac
    [ -e "$file" ] || missing="$missing $package"
done <"$list"
[ -n "$missing" ] || exit 0

leave() {
    echo "not installed:$missing ($1); the tests that need them skip"
    exit 0
}
command -v apt-get >/dev/null || leave "no apt-get here"
if [ "$(id -u)" = 0 ]; then
    root=
elif sudo -n true 2>/dev/null; then
    root="sudo -n"
else
    leave "neither root nor sudo without a password"
fi

# Exit code 101 of this program tells the packages' scripts not to start a service.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '$root rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $root tee $policy >/dev/null
    $root chmod 755 $policy
fi
apt() {
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" </dev/null
}
apt update || leave "apt-get update failed"
# shellcheck disable=SC2086 - one word a package
apt install --yes --no-install-recommends $missing >/dev/null || leave "apt-get install failed"
echo "installed:$missing"
