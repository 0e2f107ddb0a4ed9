#!/usr/bin/env bash
# build_image.sh DISTRIBUTION IMAGE: a bare Debian with systemd and SSH, as an installer leaves it.
set -euo pipefail
distribution=$1 image=$2
case "$distribution" in
  debian12) suite=bookworm ;;
  debian13) suite=trixie ;;
  *) echo "No recipe for a test host '$distribution': use debian12 or debian13" >&2; exit 2 ;;
esac
root=$(mktemp --directory /var/tmp/gpufleet-image.XXXXXX)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase \
  --include=systemd,systemd-sysv,dbus,python3,python3-apt,sudo,iproute2,ca-certificates,openssh-server,libkmod2 \
  "$suite" "$root"
rm -rf "$root"/var/cache/apt/archives/*.deb
tar --directory "$root" --create . | podman --runtime runc import --change 'CMD ["/sbin/init"]' - "$image"
