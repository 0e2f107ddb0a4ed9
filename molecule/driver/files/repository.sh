#!/bin/sh
# repository.sh DIRECTORY REVISION: a signed repository with the packages that apt has in its cache, under
# the names that NVIDIA gives them and with a higher revision; no dependency but the revision changes.
# With the revision "broken" the module's source cannot be compiled. Prints the version.
set -eu
directory=$1
revision=$2
archives=/var/cache/apt/archives
old=$(dpkg-query --show --showformat='${Version}' nvidia-smi | sed 's/+.*//')
version="$old+$revision"
mkdir -p "$directory"
work=$(mktemp --directory)
cd "$work"

pack() { # FILE NAME
  rm -rf tree
  dpkg-deb --raw-extract "$1" tree
  given=$(sed -n 's/^Package: //p' tree/DEBIAN/control)
  sed -i "s/^Package: .*/Package: $2/; s/^Version: .*/Version: $version/; s/(= $old)/(= $version)/g" tree/DEBIAN/control
  if [ "$given" != "$2" ]; then
    printf '%s: %s\n' Conflicts "$given" Replaces "$given" >>tree/DEBIAN/control
    if [ "$revision" = broken ]; then
      find tree/usr/src -name nv.c -exec sed -i '1i #error this driver cannot be compiled' {} +
      rm -f tree/DEBIAN/md5sums
    fi
  fi
  dpkg-deb --root-owner-group -Znone --build tree "$directory" >/dev/null
}

empty() { # NAME VERSION DEPENDS
  rm -rf tree
  mkdir -p tree/DEBIAN
  printf '%s: %s\n' Package "$1" Version "$2" Architecture amd64 Maintainer 'Test <test@example.com>' \
    Description test ${3:+Depends "$3"} >tree/DEBIAN/control
  dpkg-deb --root-owner-group -Znone --build tree "$directory" >/dev/null
}

for file in "$archives"/*_"$old"_*.deb; do
  name=$(basename "$file" | cut -d_ -f1)
  case "$name" in
    nvidia-kernel-dkms | nvidia-kernel-source) ;;
    nvidia-open-kernel-dkms) pack "$file" nvidia-kernel-open-dkms ;;
    *) pack "$file" "$name" ;;
  esac
done
for name in nvidia-modprobe nvidia-persistenced; do
  pack "$(find "$archives" -name "${name}_*.deb" | tail -1)" "$name"
done
empty nvidia-driver-cuda "$version" \
  "nvidia-smi (= $version), libcuda1 (= $version), libnvidia-ml1 (= $version), libnvidia-ptxjitcompiler1 (= $version)"
# A later branch, which nothing may move to.
empty nvidia-smi 550.54.15-1 ""

cd "$directory"
dpkg-scanpackages --multiversion . >Packages 2>/dev/null
apt-ftparchive release . >"$work/Release"
mv "$work/Release" .
export GNUPGHOME=/srv/gnupg
if [ ! -d "$GNUPGHOME" ]; then
  mkdir -m 700 "$GNUPGHOME"
  gpg --batch --quiet --passphrase '' --quick-generate-key 'Repository of the test <test@example.com>' default default never
fi
gpg --batch --yes --armor --export >key.asc
gpg --batch --yes --clearsign --output InRelease Release
rm -rf "$work"
echo "$version"
