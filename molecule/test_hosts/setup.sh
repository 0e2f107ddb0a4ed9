#!/usr/bin/env bash
# Installs on this machine what the demo and the tests need, and says what is missing.
# Safe to run again: what is there is left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Both may be lowered at your own risk.
needed_memory_gib=${GPUFLEET_NEEDED_MEMORY_GIB:-10}
needed_disk_gib=${GPUFLEET_NEEDED_DISK_GIB:-20}

refuse() {
  printf '\nThis machine cannot run the test hosts yet: %s\n  Remedy: %s\n' "$1" "$2" >&2
  exit 1
}

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || refuse "you are not root and there is no sudo" "su -c 'apt-get install sudo', then add yourself to the group sudo"
  sudo -n true 2>/dev/null || sudo -v || refuse "sudo refused you" "ask for sudo rights, or run this as root"
  as_root=(sudo)
fi

memory_gib=$(awk '/^MemTotal/ {print int(($2 + 524288) / 1048576)}' /proc/meminfo)
[ "$memory_gib" -ge "$needed_memory_gib" ] \
  || refuse "it has $memory_gib GiB of memory, vLLM on the CPU needs $needed_memory_gib" "use a larger machine"

disk_gib=$(df --output=avail --block-size=1G /var/tmp | tail -1 | tr -d ' ')
[ "$disk_gib" -ge "$needed_disk_gib" ] \
  || refuse "/var has $disk_gib GiB free, images and wheels need $needed_disk_gib" "free some space, or run 'make clean' in older checkouts"

# command or file that shows it is there, and the Debian package that brings it
missing=()
while read -r sign package; do
  case "$sign" in
    /*) [ -e "$sign" ] || missing+=("$package") ;;
    *) command -v "$sign" >/dev/null || missing+=("$package") ;;
  esac
done <<'TOOLS'
podman podman
runc runc
debootstrap debootstrap
iptables iptables
/usr/lib/podman/netavark netavark
/usr/lib/podman/aardvark-dns aardvark-dns
ssh openssh-client
git git
chromium chromium
faketime faketime
/usr/lib/postgresql postgresql
/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc fonts-noto-cjk
TOOLS
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null \
    || refuse "these tools are missing: ${missing[*]}" "install them; this script can do it on Debian and Ubuntu only"
  echo "Installing: ${missing[*]}"
  "${as_root[@]}" apt-get -qq update
  if [[ " ${missing[*]} " == *" postgresql "* ]]; then
    # The tests run a server of their own: none shall run on this machine because of them.
    "${as_root[@]}" mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' \
      | "${as_root[@]}" tee /etc/postgresql-common/createcluster.d/gpufleet.conf >/dev/null
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
fi

tests/dev_tools.sh
