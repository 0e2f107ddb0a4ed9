#!/bin/sh
# Installs the kernel before the newest of Debian's archive, as a host has it that was not upgraded for a
# while. Until /etc/apt/preferences.d/kernel is removed, its metapackages are all that apt offers.
set -eu
apt-get update
newest=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p')
older=$(apt-cache search --names-only '^linux-image-[0-9.]+-[0-9]+-amd64$' | cut -d' ' -f1 | grep -vx "$newest" | sort -V | tail -1)
version=$(apt-cache show --no-all-versions "$older" | sed -n 's/^Version: //p')
mkdir -p /srv/kernel
cd /srv/kernel
for kind in linux-image linux-headers; do
  mkdir -p tree/DEBIAN
  printf '%s: %s\n' Package "$kind-amd64" Version "$version" Architecture amd64 Description test \
    Maintainer 'Test <test@example.com>' Depends "$kind-${older#linux-image-}" >tree/DEBIAN/control
  dpkg-deb -Znone --build tree "$kind.deb" >/dev/null
  cat tree/DEBIAN/control
  printf '%s: %s\n' Filename "./$kind.deb" Size "$(stat --format=%s "$kind.deb")" \
    SHA256 "$(sha256sum "$kind.deb" | cut -d' ' -f1)"
  echo
done >Packages
echo 'deb [trusted=yes] file:/srv/kernel ./' >/etc/apt/sources.list.d/kernel.list
printf '%s: %s\n' Package 'linux-image-amd64 linux-headers-amd64' Pin "version $version" Pin-Priority 1001 \
  >/etc/apt/preferences.d/kernel
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends linux-image-amd64
